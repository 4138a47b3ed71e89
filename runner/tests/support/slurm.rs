// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real Slurm of two nodes on this machine: munged, slurmctld and two slurmd, as this
//! user, with everything in one folder; all of it ends with the value.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Cluster {
    dir: PathBuf,
    /// In the order in which they were started.
    daemons: Vec<(String, Child)>,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sbin(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists())
}

impl Cluster {
    /// Starts one; `None` if Slurm is not installed.
    pub fn start(dir: &Path) -> Option<Cluster> {
        let munged = sbin("munged")?;
        let slurmctld = sbin("slurmctld")?;
        let slurmd = sbin("slurmd")?;
        fs::create_dir_all(dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let root = dir.clone();
        let at = |name: &str| root.join(name).display().to_string();
        // Whoever starts it has to own all of it, and nobody else may write there.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let munge = dir.join("munge");
        fs::create_dir(&munge).unwrap();
        fs::set_permissions(&munge, fs::Permissions::from_mode(0o755)).unwrap();
        let key = munge.join("key");
        fs::write(&key, [7_u8; 128]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        let ports = [free_port(), free_port(), free_port()];
        for folder in ["state", "spool-n0", "spool-n1"] {
            fs::create_dir(dir.join(folder)).unwrap();
        }
        let user = user();
        // Two nodes with one CPU each; a node that is silent for 10 s is down.
        let conf = format!(
            "ClusterName=bakeoff\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\n\
             AuthType=auth/munge\nAuthInfo=socket={}\nCredType=cred/munge\nSlurmUser={user}\n\
             SlurmdUser={user}\nStateSaveLocation={}\nSlurmdSpoolDir={}\nSlurmctldPidFile={}\n\
             SlurmdPidFile={}\nSlurmctldLogFile={}\nSlurmdLogFile={}\n\
             ProctrackType=proctrack/pgid\nTaskPlugin=task/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\nReturnToService=2\nSlurmdTimeout=10\n\
             SlurmctldTimeout=10\nInactiveLimit=0\nKillWait=2\nMinJobAge=60\nMailProg=/bin/true\n\
             SchedulerParameters=sched_interval=2,batch_sched_delay=1\nJobRequeue=1\n\
             MpiDefault=none\nAccountingStorageType=accounting_storage/none\n\
             JobAcctGatherType=jobacct_gather/none\n\
             NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=1 State=UNKNOWN\n\
             NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=1 State=UNKNOWN\n\
             PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP\n",
            ports[0],
            at("munge/socket"),
            at("state"),
            at("spool-%n"),
            at("slurmctld.pid"),
            at("slurmd-%n.pid"),
            at("slurmctld.log"),
            at("slurmd-%n.log"),
            ports[1],
            ports[2],
        );
        fs::write(dir.join("slurm.conf"), conf).unwrap();
        // slurmd wants to know which cgroups there are, even if it uses none.
        fs::write(dir.join("cgroup.conf"), "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n").unwrap();
        let mut cluster = Cluster { dir, daemons: Vec::new() };
        let socket = format!("--socket={}", at("munge/socket"));
        let files = ["key", "pid", "log", "seed"]
            .map(|file| format!("--{file}-file={}", at(&format!("munge/{file}"))));
        let mut words = vec!["--foreground", "--force", &socket];
        words.extend(files.iter().map(String::as_str));
        cluster.daemon("munged", Command::new(munged).args(words));
        wait("munged", || cluster.dir.join("munge/socket").exists());
        cluster.daemon("slurmctld", Command::new(slurmctld).args(["-D", "-c"]));
        for node in ["n0", "n1"] {
            cluster.daemon(node, Command::new(&slurmd).args(["-D", "-c", "-N", node]));
        }
        wait("two idle nodes", || cluster.says("sinfo", &["-h", "-t", "idle", "-o", "%D"]) == "2");
        Some(cluster)
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.join("slurm.conf")
    }

    fn daemon(&mut self, name: &str, command: &mut Command) {
        let log = fs::File::create(self.dir.join(format!("{name}.out"))).unwrap();
        let child = command
            .env("SLURM_CONF", self.conf())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push((name.to_owned(), child));
    }

    pub fn says(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(program);
        let output = command.args(words).env("SLURM_CONF", self.conf()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills the node that a task runs on, with everything that runs there, as if its plug
    /// had been pulled; the other one stays.
    pub fn kill_the_node_of(&self, job: &Path, task: u32) {
        let job: serde_json::Value = serde_json::from_slice(&fs::read(job).unwrap()).unwrap();
        let id = format!("{}_{task}", job["job"].as_str().unwrap());
        let node = self.says("squeue", &["-h", "-j", &id, "-o", "%N"]);
        let (_, slurmd) = self
            .daemons
            .iter()
            .find(|(name, _)| *name == node)
            .unwrap_or_else(|| panic!("{id}: {node:?}"));
        let mut all = vec![slurmd.id()];
        let script = format!("{}/spool-{node}/job", self.dir.display());
        for pid in pids() {
            let read = |name: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let (line, env) = (read("cmdline"), read("environ"));
            let on_node = env.split('\0').any(|word| word == format!("SLURMD_NODENAME={node}"));
            if on_node && env.contains(self.dir.parent().unwrap().to_str().unwrap()) {
                all.push(pid);
                // The daemon of the task, which started its script.
                all.extend(parent(pid).filter(|_| line.contains(&script)));
            }
        }
        for pid in all {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

impl Cluster {
    /// Has a task that lost its node start again at once; by itself Slurm waits two
    /// minutes.
    pub fn hurry(&self, job: &Path, task: u32) {
        let job: serde_json::Value = serde_json::from_slice(&fs::read(job).unwrap()).unwrap();
        let id = format!("JobId={}_{task}", job["job"].as_str().unwrap());
        self.says("scontrol", &["update", &id, "StartTime=now"]);
    }
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !until() {
        assert!(Instant::now() < end, "no {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Jobs first, or their steps outlive the daemons.
        let _ = self.says("scancel", &["--state=RUNNING", "-u", &user()]);
        for (_, child) in self.daemons.iter_mut().rev() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let end = Instant::now() + Duration::from_secs(10);
            while child.try_wait().is_ok_and(|done| done.is_none()) {
                if Instant::now() > end {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
