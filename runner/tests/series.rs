// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series as a user reads them: threads are taken as b4 takes them, and what is
//! wrong with a source is one clear error that leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn bakeoff(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bakeoff"));
    command.args(["--progress", "none"]).args(args);
    command.env_remove("BAKEOFF_ARCHIVE").env_remove("BAKEOFF_PATCHWORK");
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/threads")
}

fn patch_id(file: &Path) -> Option<String> {
    let output = Command::new("git")
        .args(["patch-id", "--stable"])
        .stdin(fs::File::open(file).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.get(..16).map(str::to_owned)
}

/// Version, missing patches and patch ids of a folder that was written.
fn written(dir: &Path) -> (String, String, Vec<String>) {
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("series.json")).unwrap()).unwrap();
    let missing: Vec<&str> =
        json["missing"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    let missing = if missing.is_empty() { "-".to_owned() } else { missing.join(",") };
    let files = json["patches"].as_array().unwrap().iter();
    let ids = files.filter_map(|patch| patch_id(&dir.join(patch["file"].as_str().unwrap())));
    (json["version"].to_string(), missing, ids.collect())
}

/// Thread, message id, version, missing, patch ids.
fn check_thread(dir: &Path, row: [&str; 5]) -> Result<(), String> {
    let [thread, id, version, missing, ids] = row;
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("out");
    let mbox = dir.join(format!("{thread}.mbox"));
    let args = ["series", "fetch", mbox.to_str().unwrap(), "--message-id", id, "--out"];
    let output = bakeoff(&[&args[..], &[out.to_str().unwrap()]].concat());
    let whole = missing == "-";
    if output.status.success() != whole || !out.is_dir() {
        return Err(format!("{thread}: {}", stderr(&output)));
    }
    if !whole && !stderr(&output).contains(&missing.replace(',', ", ")) {
        return Err(format!("{thread}: {missing} is not named: {}", stderr(&output)));
    }
    let expected: Vec<String> = ids.split_whitespace().map(str::to_owned).collect();
    let got = written(&out);
    if got == (version.to_owned(), missing.to_owned(), expected) {
        return Ok(());
    }
    Err(format!("{thread}: {got:?}"))
}

/// Threads written for it are taken as b4 takes them: a reroll of one patch, a
/// version that only the cover letter names, attachments, scissors and more.
#[test]
fn own_threads_as_b4_takes_them() {
    let table = fs::read_to_string(fixtures().join("EXPECTED.tsv")).unwrap();
    let mut count = 0;
    for line in table.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        check_thread(&fixtures(), row.try_into().unwrap()).unwrap();
        count += 1;
    }
    let mboxes = fs::read_dir(fixtures())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "mbox"));
    assert_eq!(mboxes.count(), count, "each thread has a row");
}

/// So are real threads, where they are at hand; the score is printed.
#[test]
fn real_threads_as_b4_takes_them() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/threads");
    let Ok(table) = fs::read_to_string(dir.join("EXPECTED.tsv")) else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in table.lines().skip(1) {
        let row: Vec<&str> = line.split('\t').collect();
        let ids = row.get(5).copied().unwrap_or("");
        count += 1;
        wrong.extend(check_thread(&dir, [row[0], row[1], row[2], row[4], ids]).err());
    }
    println!("{} of {count} threads as b4 takes them", count - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is written applies with `git am`, trailers of replies included.
#[test]
fn trailers_of_replies_are_added_when_asked() {
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("out");
    let mbox = fixtures().join("inline-diff-in-reply.mbox");
    let args = ["series", "fetch", mbox.to_str().unwrap(), "--trailers", "--out"];
    let output = bakeoff(&[&args[..], &[out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let first = fs::read_to_string(out.join("0001-kernel-a.patch")).unwrap();
    let trailers = "Signed-off-by: Ann Author <ann@example.org>\n\
                    Reviewed-by: Rob Reviewer <rob@example.org>\n---\n";
    assert!(first.contains(trailers), "{first}");
    // Not in somebody else's name.
    assert!(!first.contains("else@example.org"), "{first}");
}

/// Each version becomes a folder of its own.
#[test]
fn all_versions() {
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("out");
    let mbox = fixtures().join("sent-again-unnumbered.mbox");
    let args = ["series", "fetch", mbox.to_str().unwrap(), "--versions", "--out"];
    let output = bakeoff(&[&args[..], &[out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_ne!(written(&out.join("v1")).2, written(&out.join("v2")).2);
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits are a series whose base is their parent; as a thread without
/// `base-commit:` their base is found by the blobs.
#[test]
fn commits_and_the_base_of_a_thread() {
    let aside = tempfile::tempdir().unwrap();
    let repo = aside.path().join("repo");
    fs::create_dir(&repo).unwrap();
    git(&repo, &["init", "--quiet", "--initial-branch=main"]);
    for (n, text) in ["one\ntwo\nthree\n", "one\n2\nthree\n", "one\n2\n3\n"].iter().enumerate() {
        fs::write(repo.join("x.c"), text).unwrap();
        git(&repo, &["add", "x.c"]);
        git(&repo, &["commit", "--quiet", "-m", &format!("x: step {n}")]);
    }
    let base = git(&repo, &["rev-parse", "HEAD~2"]);
    let source = format!("{}#HEAD~2..HEAD", repo.display());
    let out = aside.path().join("out");
    let output = bakeoff(&["series", "fetch", &source, "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |args: &[&str]| -> serde_json::Value {
        let output = bakeoff(args);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let json = read(&["series", "show", &source, "--format", "json"]);
    assert_eq!(
        (&json["base"]["how"], &json["base"]["commit"]),
        (&"parent".into(), &base.clone().into())
    );
    let (folder, tree) = (out.to_str().unwrap(), repo.to_str().unwrap());
    let json = read(&["series", "show", folder, "--tree", tree, "--format", "json"]);
    assert_eq!((&json["base"]["how"], &json["base"]["commit"]), (&"blobs".into(), &base.into()));
    // What was written applies.
    git(&repo, &["checkout", "--quiet", "-b", "again", "HEAD~2"]);
    let am = [
        "am",
        "--quiet",
        &format!("{folder}/0001-x-step-1.patch"),
        &format!("{folder}/0002-x-step-2.patch"),
    ];
    git(&repo, &am);
    assert_eq!(git(&repo, &["diff", "main"]), "");
}

/// Ends the server when the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread is fetched from public-inbox by its message id and by its address.
#[test]
fn from_public_inbox() {
    if Command::new("public-inbox-httpd").arg("--help").output().is_err() {
        // `bakeoff setup --tests` installs it.
        return;
    }
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
    let mbox = fs::read_to_string(fixtures().join("partial-reroll.mbox")).unwrap();
    for mail in mbox.split("From mboxrd@z Thu Jan  1 00:00:00 1970\n").skip(1) {
        run("public-inbox-mda", &["--no-precheck"], mail.as_bytes());
    }
    let listen = format!("127.0.0.1:{port}");
    let _server = Server(
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
    let url = format!("{address}/r1-2@x.example/T/#t");
    for args in [vec!["r1-2@x.example", "--server", &address], vec![url.as_str()]] {
        let out = home.join("out");
        let fixed = ["series", "fetch", "--out", out.to_str().unwrap()];
        let output = bakeoff(&[&fixed[..], &args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let (version, missing, ids) = written(&out);
        assert_eq!((version.as_str(), missing.as_str(), ids.len()), ("2", "-", 3));
        fs::remove_dir_all(&out).unwrap();
    }
    let output = bakeoff(&["series", "show", "no/such@x.example", "--server", &address]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no mail no/such@x.example"), "{}", stderr(&output));
}

/// Answers every request with these bytes; then stays silent for a while.
fn serve(answer: Vec<u8>, silent: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/l", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(&answer);
                std::thread::sleep(silent);
            });
        }
    });
    address
}

fn answer(status: &str, kind: &str, body: &[u8], length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Each way a server can be bad is one error that names it, soon, and nothing
/// is written.
#[test]
fn bad_servers() {
    let mbox = fs::read(fixtures().join("partial-reroll.mbox")).unwrap();
    let zip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let whole = zip(&mbox);
    let half = &whole[..whole.len() / 2];
    let bomb = zip(&vec![b'x'; 300 << 20]);
    let large = [b"From m@z Thu Jan  1 00:00:00 1970\n".to_vec(), vec![b'y'; 50 << 20]].concat();
    let page = b"<!DOCTYPE html><title>Are you a robot?</title>";
    let none = Duration::ZERO;
    for (what, address, said) in [
        ("403", serve(answer("403 Forbidden", "text/plain", b"", 0), none), "403 Forbidden"),
        ("html", serve(answer("200 OK", "text/html", page, page.len()), none), "is a web page"),
        ("half", serve(answer("200 OK", "x/gz", half, half.len()), none), "is cut off or damaged"),
        ("short", serve(answer("200 OK", "x/m", &mbox, mbox.len() * 2), none), "broke off"),
        ("bomb", serve(answer("200 OK", "x/gz", &bomb, bomb.len()), none), "unpacks to more than"),
        ("large", serve(answer("200 OK", "x/m", &large, large.len()), none), "a mail of more than"),
        ("stall", serve(Vec::new(), Duration::from_secs(30)), "did not answer within 2 s"),
    ] {
        let aside = tempfile::tempdir().unwrap();
        let out = aside.path().join("out");
        let began = Instant::now();
        let fixed = ["series", "fetch", "r1-2@x.example", "--timeout"];
        let patience = if what == "stall" { "2" } else { "60" };
        let rest = [patience, "--server", &address, "--out", out.to_str().unwrap()];
        let output = bakeoff(&[&fixed[..], &rest].concat());
        assert!(stderr(&output).contains(said), "{what}: {}", stderr(&output));
        assert!(!output.status.success() && began.elapsed() < Duration::from_secs(50), "{what}");
        assert_eq!(fs::read_dir(aside.path()).unwrap().count(), 0, "{what}");
    }
}

/// A redirect that leads back is an error, not a loop.
#[test]
fn redirects_in_circles() {
    let head = "HTTP/1.1 302 Found\r\nLocation: /l/again\r\nContent-Length: 0\r\n\
                Connection: close\r\n\r\n";
    let address = serve(head.into(), Duration::ZERO);
    let output = bakeoff(&["series", "show", "a@x.example", "--server", &address]);
    assert!(stderr(&output).contains("redirects in circles"), "{}", stderr(&output));
}

/// Each way a mailbox can be bad is one error that names it, and nothing is
/// written.
#[test]
fn bad_mailboxes() {
    let read = |name: &str| fs::read_to_string(fixtures().join(format!("{name}.mbox"))).unwrap();
    let two = read("partial-reroll") + &read("version-from-cover").replace("ann@", "bea@");
    let one = read("scissors");
    let cut = &one[..one.find("\n+b").unwrap()];
    let escaping = read("sent-again-unnumbered").replace("net/one.c", "net/../../one.c");
    let injecting = read("quoted-printable")
        .replace("Subject: [RFC PATCH v2 1/1]", "Subject: =?utf-8?q?x=0ABcc=3A_evil?= [PATCH]");
    for (what, text, said) in [
        ("two", two.as_str(), "holds more than one series"),
        ("cut", cut, "ends in the middle of a hunk"),
        ("escaping", &escaping, "leaves the tree: `net/../../one.c`"),
        ("injecting", &injecting, "hides a line break"),
        ("nothing", "", "no patch"),
        ("talk", "From a@b Thu Jan  1 00:00:00 1970\nSubject: hi\n\nhi\n", "no patch"),
    ] {
        let aside = tempfile::tempdir().unwrap();
        let mbox = aside.path().join("x.mbox");
        fs::write(&mbox, text).unwrap();
        let out = aside.path().join("out");
        let args = ["series", "fetch", mbox.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let output = bakeoff(&args);
        assert_eq!(output.status.code(), Some(2), "{what}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{what}: {}", stderr(&output));
        assert_eq!(fs::read_dir(aside.path()).unwrap().count(), 1, "{what}");
    }
}

/// Line ends of another system change nothing.
#[test]
fn crlf_changes_nothing() {
    let aside = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixtures().join("version-from-cover.mbox")).unwrap();
    let crlf = aside.path().join("version-from-cover.mbox");
    fs::write(&crlf, text.replace('\n', "\r\n")).unwrap();
    let out = aside.path().join("out");
    let args = ["series", "fetch", crlf.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = bakeoff(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let patch = fs::read_to_string(out.join("0001-fs-a.patch")).unwrap();
    assert!(!patch.contains('\r') && patch.contains("\n-a\n+b\n"), "{patch}");
}

/// A series of Patchwork is read by its API, in order.
#[test]
fn from_patchwork() {
    let mbox = fs::read_to_string(fixtures().join("version-from-cover.mbox")).unwrap();
    let mark = "From mboxrd@z Thu Jan  1 00:00:00 1970\n";
    let mails: Vec<String> = mbox.split(mark).skip(1).map(|mail| format!("{mark}{mail}")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let item = |n: usize| serde_json::json!({"mbox": format!("https://pw.example/{n}/mbox/")});
    let series =
        serde_json::json!({"id": 5, "cover_letter": item(0), "patches": [item(2), item(1)]})
            .to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 4096];
            let n = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..n]).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or_default();
            let mail = path.trim_matches('/').split('/').next().and_then(|n| n.parse().ok());
            let body = match mail {
                Some(n) => mails.get::<usize>(n).cloned().unwrap_or_default(),
                None if path == "/api/series/5/" => series.clone(),
                None => String::new(),
            };
            let _ = stream.write_all(&answer("200 OK", "x/y", body.as_bytes(), body.len()));
        }
    });
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("out");
    let args = ["series", "fetch", "patchwork:5", "--patchwork", &server, "--out"];
    let output = bakeoff(&[&args[..], &[out.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let (version, missing, ids) = written(&out);
    assert_eq!((version.as_str(), missing.as_str()), ("4", "-"));
    assert_eq!(ids, ["f54798ebedbbea04", "b7db1e732531606b"]);
}

/// A branch of `b4 prep` has its version, cover letter and base; as a plain range
/// its empty commit counts for nothing.
#[test]
fn a_branch_of_b4() {
    let aside = tempfile::tempdir().unwrap();
    let repo = aside.path();
    git(repo, &["init", "--quiet", "--initial-branch=main"]);
    fs::write(repo.join("x.c"), "one\ntwo\n").unwrap();
    git(repo, &["add", "x.c"]);
    git(repo, &["commit", "--quiet", "-m", "base"]);
    git(repo, &["checkout", "--quiet", "-b", "b4/topic"]);
    let cover = "x: a topic\n\nWhy.\n\n--- b4-submit-tracking ---\n# Used by b4.\n\
                 {\"series\": {\"revision\": 3, \"change-id\": \"20260303-topic-1\"}}\n";
    git(repo, &["commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", cover]);
    for text in ["one\n2\n", "1\n2\n"] {
        fs::write(repo.join("x.c"), text).unwrap();
        git(repo, &["commit", "--quiet", "-a", "-m", "x: step"]);
    }
    let show = |what: &str| -> serde_json::Value {
        let source = format!("{}#{what}", repo.display());
        let output = bakeoff(&["series", "show", &source, "--format", "json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let series = show("b4/topic");
    assert_eq!((&series["version"], &series["expected"]), (&3.into(), &2.into()));
    assert_eq!(series["subject"], "x: a topic");
    assert_eq!(series["author"]["email"], "a@example.org");
    assert_eq!(series["base"]["commit"], git(repo, &["rev-parse", "main"]));
    assert_eq!(series["base"]["change_id"], "20260303-topic-1");
    let range = show("main..b4/topic");
    assert_eq!((&range["version"], &range["expected"]), (&1.into(), &2.into()));
}
