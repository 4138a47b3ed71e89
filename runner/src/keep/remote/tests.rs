// SPDX-License-Identifier: MIT OR Apache-2.0
//! Remotes that work, and every way in which one does not.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::*;
use crate::base::event::{Event, Sink};

/// What warnings and notes were told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Sink for Told {
    fn event(&mut self, event: &Event) {
        if let Event::Warning(text) | Event::Note(text) = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

impl Told {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    told: Told,
}

fn fill(dir: &Path) -> Result<()> {
    fs::write(dir.join("image"), "kernel").at_path("write", dir)
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap(), told: Told::default() }
    }

    fn cache(&self, name: &str, remote: &str, push: bool, token: Option<&str>) -> Cache {
        let events = Events::new(vec![Box::new(self.told.clone())]);
        let token = token.map(str::to_owned);
        let silence = Duration::from_secs(2);
        let remote = Remote::with(remote, push, token, silence, &events, &Cancel::new()).unwrap();
        Cache::open(Some(&self.dir.path().join(name))).unwrap().with_remote(remote)
    }

    fn remote_dir(&self) -> String {
        self.dir.path().join("remote").display().to_string()
    }

    /// The bytes of `kernel/k` as a remote has them.
    fn archive(&self) -> Vec<u8> {
        let cache = Cache::open(Some(&self.dir.path().join("maker"))).unwrap();
        cache.put_local(Kind::Kernel, "k", fill).unwrap();
        let name = Name { kind: Kind::Kernel, key: "k".into() };
        let mut bytes = Vec::new();
        bundle::write(&cache, &[name], &mut bytes, &Cancel::new(), &mut |_| {}).unwrap();
        bytes
    }
}

/// What is made in one cache is had by another through a folder, and only if it was told to
/// write there. The run that reads makes nothing.
#[test]
fn a_folder_is_shared() {
    let bench = Bench::new();
    fs::create_dir(bench.remote_dir()).unwrap();
    let silent = bench.cache("silent", &bench.remote_dir(), false, None);
    silent.put(Kind::Kernel, "k", fill).unwrap();
    assert_eq!(fs::read_dir(bench.remote_dir()).unwrap().count(), 0, "read-only unless told");
    let maker = bench.cache("maker", &bench.remote_dir(), true, None);
    maker.put(Kind::Kernel, "k", fill).unwrap();
    let reader = bench.cache("reader", &bench.remote_dir(), false, None);
    let entry = reader.get(Kind::Kernel, "k").unwrap().unwrap();
    assert_eq!(fs::read_to_string(entry.join("image")).unwrap(), "kernel");
    assert_eq!(reader.get(Kind::Kernel, "other").unwrap(), None);
    assert!(
        bench.told.all()[0].contains("kernel/k: from the remote cache"),
        "{:?}",
        bench.told.all()
    );
}

/// An entry that was changed at the remote is said and not used; one that is there is not
/// replaced.
#[test]
fn damaged_entries_are_not_used() {
    let bench = Bench::new();
    let maker = bench.cache("maker", &bench.remote_dir(), true, None);
    maker.put(Kind::Kernel, "k", fill).unwrap();
    let file = bench.dir.path().join("remote/v1/kernel/k.tar.zst");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let reader = bench.cache("reader", &bench.remote_dir(), true, None);
    assert_eq!(reader.get(Kind::Kernel, "k").unwrap(), None);
    assert!(bench.told.all()[0].contains("not used, and made here"), "{:?}", bench.told.all());
    reader.put(Kind::Kernel, "k", fill).unwrap();
    assert_eq!(fs::read(&file).unwrap(), bytes, "nothing that is there is replaced");
}

/// A server of one answer: it notes the requests' heads.
fn serve(answer: Vec<u8>, then: Duration) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/cache", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 2 {}
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            noted.lock().unwrap().push(head.clone());
            let _ = stream.write_all(match head.as_bytes() {
                [b'P', ..] => {
                    b"HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                }
                [b'H', ..] => {
                    b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                }
                _ => &answer,
            });
            std::thread::sleep(then);
        }
    });
    (address, heads)
}

fn ok(body: &[u8], length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

const AT_ONCE: Duration = Duration::ZERO;

/// A server gives what it has, to who shows the token; what is made here is put there only
/// if told so.
#[test]
fn a_server_is_asked() {
    let bench = Bench::new();
    let bytes = bench.archive();
    let (address, heads) = serve(ok(&bytes, bytes.len()), AT_ONCE);
    let cache = bench.cache("reader", &address, false, Some("s3cret"));
    assert!(cache.get(Kind::Kernel, "k").unwrap().is_some(), "{:?}", bench.told.all());
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /cache/v1/kernel/k.tar.zst HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer s3cret"), "{head}");
    assert!(!format!("{cache:?}").contains("s3cret"));
    cache.put(Kind::Kernel, "j", fill).unwrap();
    assert_eq!(heads.lock().unwrap().len(), 1, "read-only unless told");
    bench.cache("maker", &address, true, None).put(Kind::Kernel, "l", fill).unwrap();
    let head = heads.lock().unwrap().last().unwrap().clone();
    assert!(head.starts_with("PUT /cache/v1/kernel/l.tar.zst"), "{head}");
}

/// Each way in which a server can fail is one line, costs one attempt, and the run goes on.
#[test]
fn servers_that_fail_are_one_line() {
    let bench = Bench::new();
    let bytes = bench.archive();
    let half = &bytes[..bytes.len() / 2];
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\n\
                 content-length: 6\r\n\r\n<html>";
    let with = |answer: &[u8]| answer.to_vec();
    let soon = Duration::from_secs(10);
    for (answer, then, part) in [
        (with(page), AT_ONCE, "answers with a web page"),
        (ok(b"<html><body>login", 17), AT_ONCE, "is a web page"),
        (with(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), AT_ONCE, TOKEN),
        (with(b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), AT_ONCE, "answers 503"),
        (with(b"garbage\r\n\r\n"), AT_ONCE, "does not answer"),
        (
            with(b"HTTP/1.1 302 Found\r\nlocation: /cache\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            AT_ONCE,
            "circles",
        ),
        (ok(half, bytes.len()), AT_ONCE, "cut off or damaged"),
        (ok(half, half.len()), AT_ONCE, "cut off or damaged"),
        (ok(half, bytes.len()), soon, "sends nothing for 2s"),
        (Vec::new(), soon, "sends nothing for 2s"),
    ] {
        let bench = Bench::new();
        let (address, heads) = serve(answer, then);
        let cache = bench.cache("reader", &address, false, None);
        assert_eq!(cache.get(Kind::Kernel, "k").unwrap(), None, "{part}");
        let asked = heads.lock().unwrap().len();
        assert_eq!(cache.get(Kind::Kernel, "k").unwrap(), None, "{part}");
        assert_eq!(heads.lock().unwrap().len(), asked, "{part}: it is not asked again");
        let told = bench.told.all();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(part) && !told[0].contains('\n'), "{part}: {told:?}");
        assert!(
            fs::read_dir(cache.root().join("kernel")).map_or(0, Iterator::count) == 0,
            "{part}"
        );
    }
}

/// A server that is not there; an entry that is not there, which is nothing to tell.
#[test]
fn nobody_there() {
    let bench = Bench::new();
    let cache = bench.cache("a", "http://127.0.0.1:9/x", false, None);
    assert_eq!(cache.get(Kind::Kernel, "k").unwrap(), None);
    assert!(bench.told.all()[0].contains("going on without it"), "{:?}", bench.told.all());
    let bench = Bench::new();
    let answer =
        b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (address, _) = serve(answer, AT_ONCE);
    let cache = bench.cache("a", &address, false, None);
    assert_eq!(cache.get(Kind::Kernel, "k").unwrap(), None);
    assert!(bench.told.all().is_empty(), "{:?}", bench.told.all());
}

/// Secrets on the command line or in the clear are refused, and so is what is no place.
#[test]
fn bad_places_are_refused() {
    let open = |written: &str, token: Option<&str>| {
        let token = token.map(str::to_owned);
        Remote::with(written, false, token, SILENCE, &Events::silent(), &Cancel::new()).unwrap_err()
    };
    for (written, token, part) in [
        ("https://me:secret@example.com/", None, "password"),
        ("http://example.com/", Some("t"), "plain http"),
        ("s3://bucket", None, "does not speak s3"),
        ("/no/such/folder", None, "no folder"),
    ] {
        let error = open(written, token);
        assert!(error.message().contains(part) && error.next_step().is_some(), "{error}");
        assert!(!error.chain().contains("secret"), "{error}");
    }
}
