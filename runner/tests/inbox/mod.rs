// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's public-inbox, served on loopback with the mails of a test.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends the server when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A public-inbox on loopback with the mails of an mbox.
pub struct Inbox {
    /// Lives as long as the server.
    pub home: tempfile::TempDir,
    /// `http://127.0.0.1:PORT/l`.
    pub address: String,
    _server: Server,
}

impl Inbox {
    /// `None` where public-inbox is not installed: `bakeoff setup --tests` does that.
    pub fn new(mbox: &str) -> Option<Inbox> {
        Command::new("public-inbox-httpd").arg("--help").output().ok()?;
        let aside = tempfile::tempdir().unwrap();
        let home = aside.path();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("http://127.0.0.1:{port}/l");
        let inbox = home.join("l");
        let run = |program: &str, args: &[&str], input: &[u8]| {
            let mut child = Command::new(program)
                .args(args)
                .env("HOME", home)
                .env("PI_CONFIG", home.join("config"))
                .env("ORIGINAL_RECIPIENT", "l@example.org")
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            assert!(child.wait().unwrap().success(), "{program}");
        };
        let place = inbox.to_str().unwrap();
        run("public-inbox-init", &["-V2", "l", place, &address, "l@example.org"], b"");
        let mut config = fs::OpenOptions::new().append(true).open(home.join("config")).unwrap();
        config.write_all(b"[publicinboxmda]\n\tspamcheck = none\n").unwrap();
        for mail in mbox.split("From mboxrd@z Thu Jan  1 00:00:00 1970\n").skip(1) {
            run("public-inbox-mda", &["--no-precheck"], mail.as_bytes());
        }
        let listen = format!("127.0.0.1:{port}");
        let server = Server(
            Command::new("public-inbox-httpd")
                .args(["-W0", "-l", &listen])
                .env("HOME", home)
                .env("PI_CONFIG", home.join("config"))
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let began = Instant::now();
        while std::net::TcpStream::connect(&listen).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "public-inbox-httpd does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Inbox { home: aside, address, _server: server })
    }
}
