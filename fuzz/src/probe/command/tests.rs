use super::*;
use crate::wire::Step;

fn params(yaml: &str) -> Params {
    let value: serde_json::Value = serde_json::from_str(yaml).unwrap();
    value.as_object().unwrap().clone().into_iter().collect()
}

fn refused(json: &str) -> String {
    Command::of(&params(json)).unwrap_err().to_string()
}

/// Runs a command here, as a visit in a guest would, without its walls.
fn visit(json: &str) -> (Result<(), String>, Vec<Record>) {
    let params = params(json);
    let command = Command::of(&params).unwrap();
    let step = Step {
        id: 4,
        probe: "command".to_owned(),
        params,
        blocks: 1,
        calls_per_block: 1,
        block_ms: 60_000,
    };
    let mut records = Vec::new();
    let visit = Visit { number: 2, seed: 99, step };
    let path = ["/bin", "/usr/bin"];
    let taken = take(&command, &visit, &path, Path::new("/"), None, &mut |record| {
        records.push(record);
        Ok(())
    });
    (taken.map_err(|failure| failure.to_string()), records)
}

fn block(json: &str) -> (Block, Output) {
    match visit(json) {
        (Ok(()), records) => match <[Record; 2]>::try_from(records).unwrap() {
            [Record::Output(output), Record::Block(block)] => (block, output),
            other => panic!("{other:?}"),
        },
        (Err(failure), records) => panic!("{failure}: {records:?}"),
    }
}

fn told(block: &Block) -> String {
    let shares = block.shares.iter().map(|(name, s)| format!("{name} {}/{}", s.right, s.of));
    let notes = block.notes.iter().map(|(name, n)| format!("{name} {n}"));
    let excluded = block.excluded.iter().map(|(name, n)| format!("not {name} {n}"));
    shares.chain(notes).chain(excluded).collect::<Vec<_>>().join(", ")
}

/// Each way to end by exit status has one clear meaning, kselftest's where it is one of
/// its five.
#[test]
fn exit_statuses_are_read() {
    for (run, means, end) in [
        ("exit 0", "command.pass 1/1", "exit status 0"),
        ("exit 1", "command.pass 0/1", "exit status 1"),
        ("exit 2", "not expected-failure 1", "exit status 2"),
        ("exit 3", "command.pass 1/1", "exit status 3"),
        ("exit 4", "not skip 1", "exit status 4"),
        ("exit 77", "command.pass 0/1", "exit status 77"),
        ("kill -BUS $$", "command.pass 0/1, killed 1", "killed by signal 7 (SIGBUS)"),
    ] {
        let (block, output) = block(&format!(r#"{{"run": "{run};"}}"#));
        assert_eq!((told(&block).as_str(), output.end.as_str()), (means, end), "{run}");
        assert_eq!((block.step, block.visit, output.step, output.visit), (4, 2, 4, 2));
        assert_eq!(block.calls, u64::from(!means.starts_with("not")), "{run}");
        assert_eq!(block.values.contains_key(SECONDS), !run.contains("4") && !run.contains("kill"));
    }
}

/// A command that never ends has failed; the time it took is not a measurement.
#[test]
fn never_ending_is_failing() {
    let (block, output) = block(r#"{"run": "echo begun; sleep 100", "time-limit": 1}"#);
    assert_eq!(told(&block), "command.pass 0/1, timed-out 1");
    assert_eq!(
        (output.end.as_str(), output.text.as_str()),
        ("killed at its time limit of 1 s", "begun\n")
    );
    assert!(block.values.is_empty());
}

/// Tests are told apart by name; a plan that is not met is not complete.
#[test]
fn tests_are_read() {
    let run = |script: &str| {
        let json = serde_json::json!({"run": script, "read": ["ktap", "exit"]});
        told(&block(&json.to_string()).0)
    };
    assert_eq!(
        run("printf 'TAP version 13\\n1..3\\nok 1 a\\nnot ok 2 b\\nok 3 c # SKIP no\\n'; exit 1"),
        "command.complete 1/1, command.pass 0/1, command.test/a 1/1, command.test/b 0/1, not skip/c 1"
    );
    assert_eq!(
        run("printf '1..3\\nok 1 a\\n'; kill -9 $$"),
        "command.complete 0/1, command.pass 0/1, command.test/a 1/1, killed 1, tests-missing 2"
    );
    assert_eq!(run("echo hello; exit 0"), "command.complete 0/1, command.pass 1/1, tests-none 1");
    // What did nothing is not complete either: nothing is known.
    assert_eq!(run("echo '1..0 # SKIP'; exit 4"), "not skip 1");
    assert_eq!(
        run("printf '1..2\\nok 1 a # SKIP does not build: a.c:1: error\\nok 2 b\\n'"),
        "command.complete 1/1, command.pass 1/1, command.test/b 1/1, not not-built/a 1"
    );
}

/// Metrics of a run that failed do not count, and one that is missing is told.
#[test]
fn metrics_are_read() {
    let run = |script: &str| {
        let metric =
            |name: &str| serde_json::json!({"name": name, "unit": "ns", "better": "lower"});
        let json = serde_json::json!({
            "run": script, "read": "metrics", "metrics": [metric("a"), metric("b")],
        });
        visit(&json.to_string())
    };
    let (_, records) = run("echo metric a 5 ns; echo metric a 7 ns >&2");
    let Record::Block(block) = &records[1] else { panic!("{records:?}") };
    assert_eq!(told(block), "command.complete 1/1, not no-value/b 1");
    let a = block.values["command.metric/a"];
    assert_eq!((a.n, a.mean), (2, 6.0));
    let (_, records) = run("echo metric a 5 ns; exit 1");
    let Record::Block(block) = &records[1] else { panic!("{records:?}") };
    assert_eq!(told(block), "command.complete 1/1, not failed-run 1");
    assert!(!block.values.contains_key("command.metric/a"));
    // The output is told before the error.
    let (taken, records) = run("echo metric a five ns;");
    assert!(taken.unwrap_err().contains("\"metric a five ns\": \"five\" is not a number"));
    assert!(matches!(&records[..], [Record::Output(output)] if output.text.contains("five")));
}

/// More output than anybody reads is one clear result: both ends of it are kept.
#[test]
fn floods_are_cut() {
    let (block, output) = block(r#"{"run": "echo first; yes | head -c 20000000; echo last;"}"#);
    assert_eq!(told(&block), "command.pass 1/1");
    assert!(output.text.starts_with("first\ny\n") && output.text.ends_with("y\nlast\n"));
    assert!(output.text.len() < 100_000 && output.cut_bytes > 19_000_000);
}

/// A program that is not there is an error that names it, never a failed test.
#[test]
fn missing_programs_are_errors() {
    let (taken, records) = visit(r#"{"run": "no-such-program --fast"}"#);
    assert_eq!(
        taken.unwrap_err(),
        "there is no program `no-such-program` in the guest (looked in /bin, /usr/bin)"
    );
    assert!(records.is_empty());
    let (taken, records) = visit(r#"{"run": "no-such-program; "}"#);
    assert!(taken.unwrap_err().contains("exit status 127"));
    assert!(matches!(&records[..], [Record::Output(output)] if output.text.contains("not found")));
    let shell = Command::of(&params(r#"{"run": "a && b"}"#)).unwrap();
    let error = shell.words(&PATH, |_| false).unwrap_err().to_string();
    assert!(error.contains("`a && b`") && error.contains("busybox: true"), "{error}");
}

/// Without shell syntax the words are the program's own, and PATH is looked through in
/// order.
#[test]
fn plain_words_need_no_shell() {
    let command = Command::of(&params(r#"{"run": " hello  --loops 10 "}"#)).unwrap();
    let (program, arguments) = command.words(&PATH, |path| path.starts_with("/workload")).unwrap();
    assert_eq!(program, Path::new("/workload/hello"));
    assert_eq!(arguments, ["--loops", "10"]);
    assert_eq!(command.label(), "hello");
}

/// What makes no sense is refused by name, before anything runs.
#[test]
fn bad_parameters_are_refused() {
    assert!(refused("{}").contains("run"));
    assert!(refused(r#"{"run": " "}"#).contains("`run`"));
    assert!(refused(r#"{"run": "x", "tim-limit": 5}"#).contains("tim-limit"));
    assert!(refused(r#"{"run": "x", "time-limit": 0}"#).contains("time-limit is 0"));
    assert!(refused(r#"{"run": "x", "read": "exits"}"#).contains("a list of these"));
    assert!(refused(r#"{"run": "x", "read": []}"#).contains("`read` names nothing"));
    assert!(refused(r#"{"run": "x", "read": "metrics"}"#).contains("`metrics:`"));
    assert!(refused(r#"{"run": "x", "name": "a b"}"#).contains("\"a b\""));
    assert!(refused(r#"{"run": "x", "processes": 99999}"#).contains("processes is 99999"));
    let metrics = r#"[{"name": "a", "unit": "ns", "better": "lower"}]"#;
    assert!(refused(&format!(r#"{{"run": "x", "metrics": {metrics}}}"#)).contains("`read`"));
}

/// The condition carries the spec's own metrics and the time that a visit needs.
#[test]
fn conditions_carry_the_specs_own() {
    let condition = condition(&params(
        r#"{"run": "bench -n 5", "name": "small", "time-limit": 90, "read": ["exit", "metrics"],
            "metrics": [{"name": "a", "unit": "ns", "better": "lower", "margin": 0.1}]}"#,
    ))
    .unwrap();
    assert_eq!((condition.label.as_str(), condition.words.as_str()), ("small", "`bench -n 5`"));
    assert_eq!(condition.block_ms, Some(90_000));
    assert_eq!(condition.without, [TEST]);
    let own = &condition.metrics[0];
    assert_eq!((own.name.as_str(), own.unit.as_str()), ("command.metric/a", "ns"));
    assert_eq!((own.better, own.margin), (Better::Lower, 0.1));
    assert!(PROBE.metrics.iter().any(|metric| metric.declares(&own.name)));
}
