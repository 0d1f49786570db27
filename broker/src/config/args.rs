//! The command line.
//!
//! Parsed whole before anything is read or opened, so that a slip costs nothing. A refusal names
//! the argument and, where one is close, the one that was probably meant.

use super::nearest::nearest;
use std::fmt;

/// What the process was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Start(StartArgs),
    Tune(TuneArgs),
    Help,
    Version,
}

/// The flags of `corelane start`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartArgs {
    pub config: Option<String>,
    pub data: Option<String>,
    pub listen: Option<String>,
    pub lanes: Option<String>,
    /// Key and value of each `--set`, in order.
    pub set: Vec<(String, String)>,
    pub check_config: bool,
    pub print_defaults: bool,
}

/// The flags of `corelane tune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneArgs {
    pub data: String,
    /// Change what can be changed, instead of only telling.
    pub apply: bool,
    /// How long the data disk is measured.
    pub seconds: u64,
}

/// A command line that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    UnknownFlag { flag: String, nearest: Option<&'static str> },
    UnknownCommand { word: String, nearest: Option<&'static str> },
    LateCommand { command: &'static str },
    NoValue { flag: &'static str, wants: &'static str },
    UnwantedValue { flag: &'static str, value: String },
    Twice { flag: &'static str },
    NotAPair { given: String },
    NotANumber { flag: &'static str, given: String },
    NotText { argument: String },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFlag { flag, nearest } => {
                write!(f, "there is no flag {flag}")?;
                nearest.map_or(Ok(()), |it| write!(f, "; did you mean {it}?"))
            }
            Self::UnknownCommand { word, nearest } => {
                write!(f, "there is no command {word}")?;
                nearest.map_or(Ok(()), |it| write!(f, "; did you mean {it}?"))
            }
            Self::LateCommand { command } => {
                write!(f, "the command comes before the flags: corelane {command}, and then they")
            }
            Self::NoValue { flag, wants } => write!(f, "{flag} needs {wants} after it"),
            Self::UnwantedValue { flag, value } => {
                write!(f, "{flag} takes no value, and {value} was given")
            }
            Self::Twice { flag } => write!(f, "{flag} is given twice"),
            Self::NotAPair { given } => write!(f, "--set needs key=value, and {given} is not that"),
            Self::NotANumber { flag, given } => {
                write!(
                    f,
                    "{flag} needs a number of seconds, at most {TUNE_SECONDS_MAX}, and {given} is not that"
                )
            }
            Self::NotText { argument } => write!(f, "{argument} is not valid UTF-8"),
        }
    }
}

const FLAGS: &[&str] = &[
    "--config",
    "--data",
    "--listen",
    "--lanes",
    "--set",
    "--check-config",
    "--print-defaults",
    "--help",
    "--version",
];
const TUNE_FLAGS: &[&str] = &["--data", "--apply", "--seconds", "--help"];
const COMMANDS: &[&str] = &["start", "tune", "help", "version"];

/// Where everything is kept when nobody says.
const DATA: &str = "corelane-data";
const TUNE_SECONDS: u64 = 10;
const TUNE_SECONDS_MAX: u64 = 3_600;

pub const HELP: &str = "\
corelane: an event streaming broker that speaks Kafka's protocol

Usage: corelane [start] [FLAGS]
       corelane tune [--data DIR] [--seconds N] [--apply]

  --config FILE       read settings from FILE (TOML, or Kafka's .properties)
  --data DIR          keep everything in DIR (default: corelane-data)
  --listen ADDR       listen on HOST:PORT or NAME://HOST:PORT, several separated by commas
                      (default: 127.0.0.1:9092)
  --lanes N           run N lanes (default: one for each core this process may use)
  --set KEY=VALUE     set one key; may be repeated
  --check-config      say what is set and by whom, and do not start
  --print-defaults    print every key with its default, as a TOML file, and do not start
  --help, --version   say this, or which version this is

A flag beats --set, --set beats the environment, the environment beats the file. In the
environment num.partitions is CORELANE_NUM_PARTITIONS, and corelane.lanes is CORELANE_LANES.

corelane tune looks at this host, says what it found and what would be better for a broker, and
asks the data disk for N seconds (default: 10, 0 for not at all) how long a flush takes. With
--apply it changes what it can, until the next start of the machine.

Signals: SIGTERM and SIGINT end the broker in good order, a second one at once. SIGUSR1 makes each
lane say how it is doing: counters, and how long each kind of request took to each of its stages.

Exit codes: 0 stopped cleanly, 1 failed, 2 usage or configuration, 3 this host cannot run it,
4 an address is in use, 5 the data directory is locked, newer, damaged or not writable, 6 the data directory
was fenced after a failed write.
";

/// Reads the arguments after the program's own name.
///
/// # Errors
/// The first argument that cannot be meant.
pub fn parse<I, S>(arguments: I) -> Result<Command, UsageError>
where
    I: IntoIterator<Item = S>,
    S: Into<std::ffi::OsString>,
{
    let mut words = Vec::new();
    for argument in arguments {
        let text = argument.into().into_string();
        words.push(
            text.map_err(|it| UsageError::NotText { argument: it.to_string_lossy().into_owned() })?,
        );
    }
    let mut words = words.into_iter().peekable();
    match words.peek().map(String::as_str) {
        Some("start") => {
            words.next();
        }
        Some("tune") => {
            words.next();
            return parse_tune(words);
        }
        Some("help") => return Ok(Command::Help),
        Some("version") => return Ok(Command::Version),
        Some(word) if !word.starts_with('-') => return Err(unknown_command(word)),
        _ => {}
    }
    let mut args = StartArgs::default();
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let name = match name {
            "-h" => "--help",
            "-V" => "--version",
            other => other,
        };
        if let Some(command) = COMMANDS.iter().copied().find(|it| *it == name) {
            return Err(UsageError::LateCommand { command });
        }
        if !name.starts_with('-') {
            return Err(unknown_command(name));
        }
        let Some(flag) = FLAGS.iter().copied().find(|it| *it == name) else {
            let nearest = nearest(name, FLAGS.iter().copied());
            return Err(UsageError::UnknownFlag { flag: name.to_owned(), nearest });
        };
        let mut value = |wants| {
            let value = attached.clone().or_else(|| words.next_if(|it| !it.starts_with("--")));
            value.ok_or(UsageError::NoValue { flag, wants })
        };
        match flag {
            "--config" => once(&mut args.config, flag, value("a file")?)?,
            "--data" => once(&mut args.data, flag, value("a directory")?)?,
            "--listen" => once(&mut args.listen, flag, value("an address")?)?,
            "--lanes" => once(&mut args.lanes, flag, value("a number")?)?,
            "--set" => {
                let given = value("key=value")?;
                match given.split_once('=') {
                    Some((key, value)) if !key.trim().is_empty() => {
                        args.set.push((key.trim().to_owned(), value.to_owned()));
                    }
                    _ => return Err(UsageError::NotAPair { given }),
                }
            }
            _ => {
                if let Some(value) = attached {
                    return Err(UsageError::UnwantedValue { flag, value });
                }
                match flag {
                    "--check-config" => args.check_config = true,
                    "--print-defaults" => args.print_defaults = true,
                    "--help" => return Ok(Command::Help),
                    "--version" => return Ok(Command::Version),
                    other => unreachable!("{other} is in the list of flags and handled nowhere"),
                }
            }
        }
    }
    Ok(Command::Start(args))
}

fn parse_tune(words: impl Iterator<Item = String>) -> Result<Command, UsageError> {
    let (mut data, mut seconds, mut apply) = (None, None, false);
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let name = if name == "-h" { "--help" } else { name };
        let Some(flag) = TUNE_FLAGS.iter().copied().find(|it| *it == name) else {
            let nearest = nearest(name, TUNE_FLAGS.iter().copied());
            return Err(UsageError::UnknownFlag { flag: name.to_owned(), nearest });
        };
        let mut value = |wants| {
            let value = attached.clone().or_else(|| words.next_if(|it| !it.starts_with("--")));
            value.ok_or(UsageError::NoValue { flag, wants })
        };
        match flag {
            "--data" => once(&mut data, flag, value("a directory")?)?,
            "--seconds" => once(&mut seconds, flag, value("a number")?)?,
            _ => {
                if let Some(value) = attached {
                    return Err(UsageError::UnwantedValue { flag, value });
                }
                if flag == "--help" {
                    return Ok(Command::Help);
                }
                apply = true;
            }
        }
    }
    let seconds = match seconds {
        None => TUNE_SECONDS,
        Some(given) => match given.parse() {
            Ok(seconds) if seconds <= TUNE_SECONDS_MAX => seconds,
            _ => return Err(UsageError::NotANumber { flag: "--seconds", given }),
        },
    };
    Ok(Command::Tune(TuneArgs { data: data.unwrap_or_else(|| DATA.to_owned()), apply, seconds }))
}

fn unknown_command(word: &str) -> UsageError {
    UsageError::UnknownCommand {
        word: word.to_owned(),
        nearest: nearest(word, COMMANDS.iter().copied()),
    }
}

fn once(place: &mut Option<String>, flag: &'static str, value: String) -> Result<(), UsageError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice { flag }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace())
    }

    #[track_caller]
    fn refused(line: &str, said: &str) {
        assert_eq!(parsed(line).unwrap_err().to_string(), said);
    }

    #[test]
    fn no_word_at_all_starts() {
        let plain = Command::Start(StartArgs::default());
        assert_eq!(parsed(""), Ok(plain.clone()));
        assert_eq!(parsed("start"), Ok(plain));
    }

    #[test]
    fn every_flag_finds_its_place() {
        let line = "start --config a.toml --data=/d --listen 0.0.0.0:1 --lanes 2 \
                    --set a=b --set c=d=e --check-config --print-defaults";
        let set = vec![("a".into(), "b".into()), ("c".into(), "d=e".into())];
        let expected = StartArgs {
            config: Some("a.toml".into()),
            data: Some("/d".into()),
            listen: Some("0.0.0.0:1".into()),
            lanes: Some("2".into()),
            set,
            check_config: true,
            print_defaults: true,
        };
        assert_eq!(parsed(line), Ok(Command::Start(expected)));
    }

    #[test]
    fn tune_has_flags_of_its_own() {
        let tune = |data: &str, apply, seconds| {
            Ok(Command::Tune(TuneArgs { data: data.into(), apply, seconds }))
        };
        assert_eq!(parsed("tune"), tune("corelane-data", false, 10));
        assert_eq!(parsed("tune --data=/d --seconds 0 --apply"), tune("/d", true, 0));
        refused("tune --aply", "there is no flag --aply; did you mean --apply?");
        let said = "--seconds needs a number of seconds, at most 3600, and ten is not that";
        refused("tune --seconds ten", said);
        refused("tune --apply=no", "--apply takes no value, and no was given");
        refused("tune more", "there is no flag more");
    }

    #[test]
    fn help_and_version_have_several_names() {
        for line in ["--help", "-h", "help", "start --help"] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
        for line in ["--version", "-V", "version"] {
            assert_eq!(parsed(line), Ok(Command::Version), "{line}");
        }
    }

    #[test]
    fn a_slip_is_named_with_what_was_probably_meant() {
        refused("--listn x", "there is no flag --listn; did you mean --listen?");
        refused("--zookeeper x", "there is no flag --zookeeper");
        refused("strat", "there is no command strat; did you mean start?");
        refused("--data d more", "there is no command more");
        refused(
            "--data d start",
            "the command comes before the flags: corelane start, and then they",
        );
        refused("--config", "--config needs a file after it");
        refused("--data --lanes 2", "--data needs a directory after it");
        refused("--lanes 2 --lanes 3", "--lanes is given twice");
        refused("--check-config=yes", "--check-config takes no value, and yes was given");
        refused("--set num.partitions", "--set needs key=value, and num.partitions is not that");
        refused("--set =3", "--set needs key=value, and =3 is not that");
    }

    #[test]
    fn help_names_every_flag() {
        for flag in FLAGS.iter().chain(TUNE_FLAGS) {
            assert!(HELP.contains(flag), "{flag}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let argument = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
        let refused = parse([argument]).unwrap_err();
        assert!(matches!(refused, UsageError::NotText { .. }));
    }
}
