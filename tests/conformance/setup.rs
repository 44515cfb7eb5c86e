//! Ways to set it up: the environment alone, names for this machine, and what `config` shows.

use std::process::Command;

use crate::forwarder::Start;
use crate::rig::{GROUP, KEY_ID, KEY_SECRET, LOGSTORE, PROJECT, Rig, TOKEN};

#[test]
fn the_environment_alone_is_enough() {
    let mut rig = Rig::new();
    rig.fill(1_000);
    let mut forwarder = Start::bare()
        .env("SLS_ENDPOINT", rig.sls.endpoint())
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", KEY_SECRET)
        .env("SLS_CG", GROUP)
        .env("HEC_URL", rig.hec.url())
        .env("HEC_TOKEN", TOKEN)
        .env("SLS2SIEM_SLS__CA_FILE", rig.path("ca.pem"))
        .env("SLS2SIEM_HEC__CA_FILE", rig.path("hec.pem"))
        // The default is a fixed port.
        .env("SLS2SIEM_ADMIN__LISTEN", "127.0.0.1:0")
        .start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
    assert_eq!(forwarder.complaints(), [""; 0]);
}

#[test]
fn localhost_is_connected_to_directly() {
    let mut rig = Rig::new();
    rig.fill(1_000);
    // Every other test names the emulator by its address. Here both ends have a name with several addresses.
    let named = |url: String| url.replace("127.0.0.1", "localhost");
    let mut forwarder = rig
        .forwarder()
        .set("sls.endpoint", named(rig.sls.endpoint()))
        .set("hec.endpoints", format!("[\"{}\"]", named(rig.hec.url())))
        .start();
    forwarder.wait_until("checkpoints at the ends", rig.patience(), || rig.is_drained());
    forwarder.stop();
    rig.assert_exact();
    assert_eq!(forwarder.complaints(), [""; 0]);
}

#[test]
fn config_shows_the_same_file_with_its_secrets_masked() {
    let rig = Rig::new();
    let _written = rig.forwarder();
    let shown = Command::new(env!("CARGO_BIN_EXE_sls2siem"))
        .args(["config", "--set", "sls.security_token=s3cret-sts", "--config"])
        .arg(rig.path("sls2siem.toml"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(shown.status.code(), Some(0));
    let text =
        format!("{}{}", String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    for secret in [KEY_SECRET, TOKEN, "s3cret-sts"] {
        assert!(!text.contains(secret), "{text}");
    }
    for part in [PROJECT, LOGSTORE, GROUP, KEY_ID, &rig.hec.url(), "heartbeat_interval", "500ms"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
