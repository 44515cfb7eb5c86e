//! Where secrets come from, and who else may read them.

use super::*;

#[test]
fn secrets_from_files_and_credentials() {
    let home = Home::new();
    home.write("hec.token", "from-file\n");
    let toml = MINIMUM.replace("token = \"s3cret-token\"", "token_file = \"hec.token\"");
    let loaded = home.load_with(&toml, &[], &[]).unwrap();
    assert_eq!(hec(&loaded).token.expose_secret(), "from-file");
    assert_eq!(hec(&loaded).token_file, Some(home.0.path().join("hec.token")));
    assert_eq!(loaded.config.warnings, Vec::<String>::new());

    let credentials = Home::new();
    credentials.write("hec.token", "from-systemd\r\n");
    let directory = credentials.0.path().display().to_string();
    let loaded = home.load_with(&toml, &[("CREDENTIALS_DIRECTORY", &directory)], &[]).unwrap();
    assert_eq!(hec(&loaded).token.expose_secret(), "from-systemd");

    // Credentials that cannot be reached are not passed over in favour of a file beside the settings.
    let unreachable = home.write("no-directory", "").display().to_string();
    let text =
        home.load_with(&toml, &[("CREDENTIALS_DIRECTORY", &unreachable)], &[]).unwrap_err().to_string();
    assert!(text.contains("no-directory") && text.contains("Not a directory"), "{text}");

    // The later layer wins between the two spellings as well.
    let loaded = home.load_with(&toml, &[("HEC_TOKEN", "from-env")], &[]).unwrap();
    assert_eq!((hec(&loaded).token.expose_secret(), hec(&loaded).token_file.clone()), ("from-env", None));

    let both = format!("{MINIMUM}token_file = \"hec.token\"\n");
    let text = home.load_with(&both, &[], &[]).unwrap_err().to_string();
    assert!(text.contains("are both set"), "{text}");
    let missing = toml.replace("hec.token", "nowhere");
    let text = home.load_with(&missing, &[], &[]).unwrap_err().to_string();
    assert!(
        text.contains("hec.token_file = \"nowhere\"") && text.contains("cannot be read: No such file"),
        "{text}"
    );
}

#[test]
fn files_with_secrets_that_everybody_can_read_are_warned_about() {
    let home = Home::new();
    let toml = MINIMUM.replace("token = \"s3cret-token\"", "token_file = \"hec.token\"");
    let token = home.write("hec.token", "from-file\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let file = home.write("open.toml", &toml);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    let warnings = loaded.config.warnings.join("\n");
    assert!(warnings.contains("hec.token: chmod o="), "{warnings}");
    assert!(warnings.contains("open.toml holds a secret"), "{warnings}");
    assert_eq!(loaded.config.warnings.len(), 2);
}

#[test]
fn sources_of_credentials() {
    let without = MINIMUM.replace("access_key_id = \"LTAI\"\naccess_key_secret = \"s3cret-key\"\n", "");
    let ecs = without.replace("[hec]", "credentials = \"ecs-ram-role\"\n[hec]");
    let loaded = with_file(&ecs).unwrap();
    let CredentialsConfig::EcsRamRole { role: None, metadata_url, hardened_only: false } =
        &loaded.config.pipelines[0].sls.credentials
    else {
        panic!()
    };
    assert_eq!(metadata_url, "http://100.100.100.200");
    let environment = without.replace("[hec]", "credentials = \"environment\"\n[hec]");
    assert!(mistakes(&environment).contains("ALIBABA_CLOUD_ACCESS_KEY_ID"));
    let home = Home::new();
    home.write("id", "LTAI2\n");
    home.write("key", "file-secret\n");
    let file = "credentials = \"file\"\naccess_key_id_file = \"id\"\naccess_key_secret_file = \"key\"\n[hec]";
    let loaded = home.load_with(&without.replace("[hec]", file), &[], &[]).unwrap();
    let CredentialsConfig::File { keys, .. } = &loaded.config.pipelines[0].sls.credentials else { panic!() };
    assert_eq!(
        (keys.access_key_id.as_str(), keys.access_key_secret.expose_secret()),
        ("LTAI2", "file-secret")
    );
}
