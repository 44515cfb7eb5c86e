//! rsyslogd and syslog-ng as child processes.
//!
//! Why: they have to be killed, stopped and restarted on the same ports, and their files read.
//! Invariants: 1. a daemon that is dropped is gone. 2. messages are written as JSON, one a line, as the daemon parsed
//! them. 3. what it acknowledges by ending a connection or by RELP it has written or has in memory: rsyslog writes
//! before it reads on (no queue), so that even its sudden death loses nothing.
//! Bounds: [`PATIENCE`] for each start and end.   Driven by: the tests.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certs;
use crate::rig::PATIENCE;

/// Where the daemons are unpacked.
#[derive(Clone)]
pub(crate) struct Root(PathBuf);

/// The unpacked daemons; none where the test is to be skipped.
pub(crate) fn find() -> Option<Root> {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/target/real-sinks");
    let root = PathBuf::from(std::env::var("SLS2SIEM_REAL_SINKS").unwrap_or_else(|_| usual.to_owned()));
    if ["usr/sbin/rsyslogd", "usr/sbin/syslog-ng"].iter().all(|file| root.join(file).exists()) {
        return Some(Root(root));
    }
    let text = format!("no rsyslog and syslog-ng in {}; run tests/real_sinks/install", root.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
    println!("skipped: {text}");
    None
}

/// Which daemon, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RsyslogTcp,
    RsyslogTls,
    RsyslogRelp,
    RsyslogRelpTls,
    RsyslogUdp,
    /// Over TCP, with the text taken apart by liblognorm's parser of CEF.
    RsyslogCef,
    SyslogNgTcp,
    SyslogNgTls,
    SyslogNgUdp,
    /// Over TCP in lines of RFC 3164.
    SyslogNgBsd,
}

impl Kind {
    pub(crate) const fn is_rsyslog(self) -> bool {
        !matches!(self, Self::SyslogNgTcp | Self::SyslogNgTls | Self::SyslogNgUdp | Self::SyslogNgBsd)
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::RsyslogTcp | Self::RsyslogCef | Self::SyslogNgTcp | Self::SyslogNgBsd => "tcp",
            Self::RsyslogUdp | Self::SyslogNgUdp => "udp",
            Self::RsyslogTls | Self::SyslogNgTls => "tls",
            Self::RsyslogRelp => "relp",
            Self::RsyslogRelpTls => "relp+tls",
        }
    }
}

/// A daemon with one input and one file.
pub(crate) struct Daemon {
    pub(crate) kind: Kind,
    root: Root,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one whose messages may be this long; none: as long as by default.
    pub(crate) fn start(root: &Root, kind: Kind, longest: Option<usize>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        certs::write(dir.path());
        // Nothing else takes a port that was given out a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut daemon = Self { kind, root: root.clone(), dir, port, child: None };
        let config = if kind.is_rsyslog() {
            daemon.rsyslog(longest)
        } else {
            daemon.syslog_ng(longest.unwrap_or(65_536))
        };
        fs::write(daemon.path("daemon.conf"), config).unwrap();
        daemon.run();
        daemon
    }

    /// Starts it again, on the same port and with the same file.
    pub(crate) fn run(&mut self) {
        let lib = self.root.0.join("usr/lib/x86_64-linux-gnu");
        let log = File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let mut command = if self.kind.is_rsyslog() {
            let mut command = Command::new(self.root.0.join("usr/sbin/rsyslogd"));
            command.arg("-n").arg("-f").arg(self.path("daemon.conf")).arg("-i").arg(self.path("pid"));
            command.arg("-M").arg(lib.join("rsyslog"));
            command
        } else {
            let mut command = Command::new(self.root.0.join("usr/sbin/syslog-ng"));
            command
                .args(["-F", "--no-caps", "--module-path"])
                .arg(self.root.0.join("usr/lib/syslog-ng/3.38"));
            command.arg("-f").arg(self.path("daemon.conf")).arg("-R").arg(self.path("persist"));
            command.arg("-c").arg(self.path("ctl")).arg("-p").arg(self.path("pid"));
            command
        };
        let _gone = fs::remove_file(self.path("pid"));
        let libraries =
            [lib, self.root.0.join("lib/x86_64-linux-gnu"), self.root.0.join("usr/lib/syslog-ng")];
        command.env("TZ", "UTC").env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("the daemon starts"));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{:?} ended with {ended:?}\n{}", self.kind, self.log());
            assert!(Instant::now() < end, "{:?} does not listen\n{}", self.kind, self.log());
            thread::sleep(LOOK);
        }
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The endpoint as a setting.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.kind.scheme(), self.port)
    }

    /// The file that it writes.
    pub(crate) fn out(&self) -> PathBuf {
        self.path("out.jsonl")
    }

    /// What it said about itself.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it politely.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().expect("runs");
        let end = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= end {
                child.kill().unwrap();
                panic!("{:?} does not end\n{}", self.kind, self.log());
            }
            thread::sleep(LOOK);
        }
    }

    /// Sends it a signal, named as `kill` names it.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("runs").id();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    fn rsyslog(&self, longest: Option<usize>) -> String {
        let (dir, port) = (self.dir.path().display(), self.port);
        let longest = longest.map(|bytes| format!("maxMessageSize=\"{bytes}\"")).unwrap_or_default();
        let tls =
            "streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\"";
        let relp_tls = format!(
            "tls=\"on\" tls.mycert=\"{dir}/server.pem\" tls.myprivkey=\"{dir}/server.key\" \
             tls.cacert=\"{dir}/ca.pem\" tls.authmode=\"certvalid\""
        );
        let input = match self.kind {
            Kind::RsyslogTls => format!("input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" {tls})"),
            // Its limit of data is 128 KiB unless told otherwise, whatever the messages may have.
            Kind::RsyslogRelp => {
                format!("input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\" maxDataSize=\"256k\")")
            }
            Kind::RsyslogRelpTls => format!(
                "input(type=\"imrelp\" address=\"127.0.0.1\" port=\"{port}\" maxDataSize=\"256k\" {relp_tls})"
            ),
            // The stream beside it tells the test that the daemon listens.
            Kind::RsyslogUdp => format!(
                "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" rcvbufSize=\"4m\")\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"
            ),
            _ => format!("input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")"),
        };
        let (parser, template) = match self.kind {
            Kind::RsyslogCef => (
                "module(load=\"mmnormalize\")\naction(type=\"mmnormalize\" rule=[\"rule=:%cef:cef%\"])\n",
                "tree",
            ),
            _ => ("", "fields"),
        };
        let property = |(name, property): &(&str, &str)| {
            format!("  property(outname=\"{name}\" name=\"{property}\" format=\"jsonf\")\n")
        };
        let properties: String = RSYSLOG_PROPERTIES.iter().map(property).collect();
        format!(
            "global(workDirectory=\"{dir}\" net.enableDNS=\"off\" {longest}\n\
             \x20 parser.escapeControlCharactersOnReceive=\"off\" defaultNetstreamDriver=\"ossl\"\n\
             \x20 defaultNetstreamDriverCAFile=\"{dir}/ca.pem\" defaultNetstreamDriverCertFile=\"{dir}/server.pem\"\n\
             \x20 defaultNetstreamDriverKeyFile=\"{dir}/server.key\")\n\
             main_queue(queue.type=\"Direct\")\n\
             module(load=\"imtcp\" maxSessions=\"500\")\n\
             module(load=\"imrelp\" tls.tlslib=\"openssl\")\n\
             template(name=\"fields\" type=\"list\" option.jsonf=\"on\") {{\n{properties}\
             \x20 property(outname=\"stamp\" name=\"timereported\" dateFormat=\"rfc3339\" format=\"jsonf\")\n}}\n\
             template(name=\"tree\" type=\"string\" string=\"%$!%\\n\")\n\
             {input}\n\
             {parser}\
             action(type=\"omfile\" file=\"{out}\" template=\"{template}\")\n",
            out = self.out().display(),
        )
    }

    fn syslog_ng(&self, longest: usize) -> String {
        let (dir, port) = (self.dir.path().display(), self.port);
        let (driver, also) = match self.kind {
            Kind::SyslogNgBsd => ("network", String::new()),
            Kind::SyslogNgUdp => {
                let beside = format!("network(transport(\"tcp\") ip(\"127.0.0.1\") port({port}));");
                ("syslog", beside)
            }
            _ => ("syslog", String::new()),
        };
        let transport = match self.kind {
            Kind::SyslogNgUdp => "transport(\"udp\") so-rcvbuf(4194304)".to_owned(),
            Kind::SyslogNgTls => format!(
                "transport(\"tls\") tls(key-file(\"{dir}/server.key\") cert-file(\"{dir}/server.pem\") \
                 ca-file(\"{dir}/ca.pem\") peer-verify(required-trusted))"
            ),
            _ => "transport(\"tcp\")".to_owned(),
        };
        let bounds = match self.kind {
            Kind::SyslogNgUdp => "",
            _ => "max-connections(100) log-iw-size(10000)",
        };
        format!(
            "@version: 3.38\n\
             options {{ keep-hostname(yes); use-dns(no); log-msg-size({longest}); stats-freq(0); threaded(no); }};\n\
             source s {{ {driver}({transport} ip(\"127.0.0.1\") port({port}) {bounds}); {also} }};\n\
             destination d {{ file(\"{out}\" template(\"$(format-json --scope none host=$HOST app=$PROGRAM pid=$PID \
             msgid=$MSGID facility=int($FACILITY_NUM) severity=int($LEVEL_NUM) stamp=$ISODATE sdata=$SDATA \
             msg=$MSG)\\n\")); }};\n\
             log {{ source(s); destination(d); flags(flow-control); }};\n",
            out = self.out().display(),
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            // A process that is stopped can be killed as well; only one that is gone cannot.
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// Names of ours and of rsyslog.
const RSYSLOG_PROPERTIES: [(&str, &str); 8] = [
    ("host", "hostname"),
    ("app", "app-name"),
    ("pid", "procid"),
    ("msgid", "msgid"),
    ("facility", "syslogfacility"),
    ("severity", "syslogseverity"),
    ("sdata", "structured-data"),
    ("msg", "msg"),
];

const LOOK: Duration = Duration::from_millis(20);

/// Lines of a file so far.
pub(crate) fn lines(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\n').map(str::to_owned).collect()
}
