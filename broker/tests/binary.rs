//! The binary from outside: what it prints where, and how it ends.

use std::process::{Command, Output};

fn corelane(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORELANE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[track_caller]
fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = corelane(arguments, &[]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
}

#[test]
fn usage_and_configuration_end_with_two() {
    check(
        &["--listn", "x"],
        2,
        "",
        "corelane: there is no flag --listn; did you mean --listen?\nTry corelane --help.\n",
    );
    check(
        &["--check-config", "--set", "num.partition=1", "--lanes", "x"],
        2,
        "",
        "corelane: --set: there is no key num.partition; did you mean num.partitions?\n\
         corelane: --lanes: Invalid value x for configuration corelane.lanes: Not a number of type \
         INT\n",
    );
    check(
        &["--config", "/no/such/file.toml"],
        2,
        "",
        "corelane: --config /no/such/file.toml: No such file or directory (os error 2)\n",
    );
}

#[test]
fn a_good_configuration_is_told_and_ends_with_zero() {
    check(&["--check-config"], 0, "# every key has its default\n", "");
    check(&["start", "--check-config", "--lanes", "2"], 0, "corelane.lanes = 2  # --lanes\n", "");
    let output = corelane(&["--check-config"], &[("CORELANE_LOG_RETENTION_MS", "5")]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "log.retention.ms = 5  # environment variable CORELANE_LOG_RETENTION_MS\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn tune_tells_about_a_host_and_leaves_a_container_alone() {
    let output = corelane(&["tune", "--seconds", "0", "--data", "/"], &[]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => {
            assert!(out.contains("open files: "), "{out}");
            assert!(out.contains("file system: "), "{out}");
            assert!(!out.contains("changed /"), "nothing is changed unless told to: {out}");
        }
        Some(3) => {
            assert!(err.starts_with("corelane: this is a container ("), "{err}");
            assert_eq!(out, "");
        }
        other => panic!("ended with {other:?}: {err}"),
    }
    let output = corelane(&["tune", "--data", "/proc", "--seconds", "1"], &[]);
    assert_eq!(output.status.code(), Some(3), "nothing can be measured there: {output:?}");
}

#[test]
fn warnings_go_beside_the_answer() {
    let output = corelane(&["--check-config"], &[("CORELANE_LANE", "5")]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "corelane: warning: environment variable CORELANE_LANE names no key and is ignored; did \
         you mean CORELANE_LANES?\n"
    );
}

#[test]
fn a_file_in_either_form_is_read() {
    let directory = std::env::temp_dir().join(format!("corelane-files-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in
        [("a.toml", "[num]\npartitions = 4\n"), ("server.properties", "#\nnum.partitions=4\n")]
    {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        check(
            &["--check-config", "--config", path],
            0,
            &format!("num.partitions = 4  # {path}, line 2\n"),
            "",
        );
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn help_version_and_defaults_are_answers() {
    for (flag, starts) in [
        ("--help", "corelane: an event streaming broker"),
        ("--version", concat!("corelane ", env!("CARGO_PKG_VERSION"))),
        ("--print-defaults", "# Every key of the broker with its default."),
    ] {
        let output = corelane(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(starts), "{flag}");
        assert!(output.stderr.is_empty(), "{flag}");
    }
}

/// A directory of its own for one test, gone when this is dropped.
struct Data(std::path::PathBuf);

impl Data {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Starts the broker on a host whose kernel answers `call` with `error`, and wants it to refuse with
/// one line that names the cause and, behind it, the remedy.
#[track_caller]
fn check_refusal(call: &str, error: &str, cause: &str, remedy: &str) {
    let data = Data::new(&format!("refusal-{call}-{error}"));
    let output = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:error={error}"))
        .arg(env!("CARGO_BIN_EXE_corelane"))
        .args(["start", "--listen", "127.0.0.1:0", "--lanes", "1", "--data"])
        .arg(&data.0)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let line = told.lines().find(|it| it.contains("this host cannot run the broker: "));
    let Some(line) = line else { panic!("{call} {error}: no refusal in {told:?}") };
    assert!(line.contains(cause), "{call} {error}: no cause in {line:?}");
    let (_, behind) = line.split_once(cause).expect("as above");
    assert!(behind.contains(remedy), "{call} {error}: no remedy in {line:?}");
    assert_eq!(output.status.code(), Some(3), "{call} {error}: {told}");
    assert!(output.stdout.is_empty(), "a broker that refuses is never ready");
    assert_eq!(std::fs::read_dir(&data.0).unwrap().count(), 0, "nothing was left behind");
}

/// Whether this machine lets us play another kernel.
fn can_inject() -> Result<(), String> {
    let traced =
        Command::new("strace").args(["-o", "/dev/null", "-e", "trace=none", "true"]).output();
    match traced {
        Err(_) => Err("strace is not installed".to_owned()),
        Ok(it) if !it.status.success() => Err("strace may not trace here".to_owned()),
        Ok(_) => Ok(()),
    }
}

#[test]
fn a_host_that_cannot_run_it_is_told_why_and_what_to_do() {
    if let Err(reason) = can_inject() {
        return println!("SKIPPED a_host_that_cannot_run_it_is_told_why_and_what_to_do: {reason}");
    }
    for (call, error, cause, remedy) in [
        ("io_uring_setup", "ENOSYS", "this kernel has no io_uring", "CONFIG_IO_URING"),
        ("io_uring_setup", "EPERM", "io_uring is ", "io_uring"),
        ("io_uring_setup", "EACCES", "io_uring is ", "io_uring"),
        ("io_uring_setup", "ENOMEM", "the limit on locked memory is too low", "ulimit -l"),
        ("io_uring_setup", "EMFILE", "too many open files for another ring", "ulimit -n"),
        ("io_uring_setup", "EINVAL", "the kernel is too old", "run on Linux"),
        ("io_uring_register", "EINVAL", "the kernel is too old", "run on Linux"),
        ("pwrite64", "EINVAL", "no direct I/O in ", "put the data on a local disk"),
    ] {
        check_refusal(call, error, cause, remedy);
    }
}

#[test]
fn more_lanes_than_cores_are_run_and_warned_of() {
    // Nobody can write there, so the broker ends before a thousand lanes start.
    let data = "/proc/corelane";
    let output = corelane(&["start", "--lanes", "1000", "--data", data], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("warning: 1000 lanes share "), "{told}");
    assert!(told.contains("pinned to none; use fewer lanes"), "{told}");
    assert!(told.contains("cannot use the data directory /proc/corelane: no file can"), "{told}");
    assert_eq!(output.status.code(), Some(5), "{told}");
}

/// The first start on a fresh machine once failed: the folder above a bare name is an empty path.
#[test]
fn it_starts_without_a_file_or_a_folder_and_ends_cleanly() {
    use std::io::{BufRead as _, BufReader};
    let home = std::env::temp_dir().join(format!("corelane-start-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["--listen", "127.0.0.1:0", "--lanes", "1"])
        .current_dir(&home)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(broker.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("corelane ready kafka=127.0.0.1:"), "{ready:?}");
    let stopped = Command::new("kill").arg(broker.id().to_string()).status().unwrap();
    assert!(stopped.success());
    assert_eq!(broker.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(&home).unwrap();
}

/// A broker that was started and is told how to go on by signals.
struct Running {
    process: std::process::Child,
    ready: String,
}

impl Running {
    fn start(data: &Data, stderr: std::process::Stdio) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut process = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["--listen", "127.0.0.1:0", "--lanes", "1", "--data"])
            .arg(&data.0)
            .stdout(std::process::Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("corelane ready kafka=127.0.0.1:"), "{ready:?}");
        Self { process, ready }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn place(&self) -> &str {
        let told = self.ready.split_whitespace().find_map(|it| it.strip_prefix("kafka="));
        told.expect("a ready line names its place")
    }
}

#[test]
fn nobody_who_stops_reading_its_log_ends_it() {
    use std::io::{Read as _, Write as _};
    let data = Data::new("deaf");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut running = Running::start(&data, writer.into());
    // A stranger who causes a line.
    let mut stranger = std::net::TcpStream::connect(running.place()).unwrap();
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // Closed in whichever way.
    drop(stranger.read_to_end(&mut Vec::new()));
    running.signal("-USR1");
    drop(std::net::TcpStream::connect(running.place()).unwrap());
    running.signal("-TERM");
    assert_eq!(running.process.wait().unwrap().code(), Some(0));
}

/// Tools signal a process and its group: one wish, and two signals.
#[test]
fn signals_of_one_instant_are_one_wish_and_a_terminal_that_goes_is_one() {
    let data = Data::new("twice");
    for names in [["-TERM", "-INT"], ["-TERM", "-HUP"], ["-HUP", "-HUP"]] {
        let running = Running::start(&data, std::process::Stdio::piped());
        running.signal("-STOP");
        names.iter().for_each(|it| running.signal(it));
        running.signal("-CONT");
        let ended = running.process.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{names:?}: {told}");
    }
}
