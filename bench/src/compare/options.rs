//! The words after `compare`.

use super::subject::Subject;
use std::env;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
corelane-bench compare SUBJECT.. --workload FILE.yaml..: brokers side by side

SUBJECT is one of
  corelane      ours, as it starts without a flag
  kafka         Apache Kafka from its Maven artefacts, at its defaults: acknowledged from the page cache
  kafka-flush   the same with log.flush.interval.messages=1: acknowledged after a flush
  tansu         Tansu from PyPI, with its engine in memory

      --workload FILE..  what they are put under; may be repeated
      --rounds N         each meets each so many times, interleaved (3)
      --cores WHAT       split: half of the cores for the broker, half for the load; shared: all for both
                         (split)
      --json FILE        append every run to FILE as a line of JSON
      --html FILE        write a page with tables and plots
      --data DIR         where brokers keep their data while they run (beside this program)
      --corelane PATH    our binary (beside this program)
      --seconds N, --warm-up N, --rate N|max, --verify
                         as in corelane-bench run

Ends with 0; 1 when verification failed or a run broke; 2 when it was asked wrongly; 3 when a subject did
not start.
";

/// Who runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    Split,
    Shared,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) workloads: Vec<PathBuf>,
    pub(crate) rounds: u32,
    pub(crate) cores: Cores,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) data: PathBuf,
    pub(crate) corelane: Option<PathBuf>,
    /// What `run` is told besides.
    pub(crate) passed_on: Vec<String>,
}

const ROUNDS: u32 = 3;

pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        subjects: Vec::new(),
        workloads: Vec::new(),
        rounds: ROUNDS,
        cores: Cores::Split,
        json: None,
        html: None,
        data: beside_this_program(),
        corelane: None,
        passed_on: Vec::new(),
    };
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "--workload" => {
                options.workloads.push(PathBuf::from(value()?));
                while let Some(more) = words.next_if(|it| !it.starts_with('-')) {
                    options.workloads.push(PathBuf::from(more));
                }
            }
            "--rounds" => {
                let text = value()?;
                let rounds = text.parse().ok().filter(|it| 0 < *it);
                options.rounds =
                    rounds.ok_or_else(|| format!("{word}: {text} is not a number of rounds"))?;
            }
            "--cores" => {
                options.cores = match value()? {
                    "split" => Cores::Split,
                    "shared" => Cores::Shared,
                    other => return Err(format!("{word}: {other} is neither split nor shared")),
                }
            }
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--html" => options.html = Some(PathBuf::from(value()?)),
            "--data" => options.data = PathBuf::from(value()?),
            "--corelane" => options.corelane = Some(PathBuf::from(value()?)),
            "--verify" => options.passed_on.push(word.to_owned()),
            "--seconds" | "--warm-up" | "--rate" => {
                let value = value()?.to_owned();
                options.passed_on.extend([word.to_owned(), value]);
            }
            other if other.starts_with('-') => return Err(format!("there is no option {other}")),
            name => options.subjects.push(Subject::named(name)?),
        }
    }
    if options.subjects.is_empty() {
        return Err(format!("which subjects? {}", Subject::names()));
    }
    if options.workloads.is_empty() {
        return Err("under which load? --workload FILE.yaml".to_owned());
    }
    // What `run` would refuse is refused before anything is started.
    for workload in &options.workloads {
        let file = workload.to_string_lossy().into_owned();
        let words: Vec<_> =
            std::iter::once(file).chain(options.passed_on.iter().cloned()).collect();
        let told = crate::load::options::parse(&words)?;
        crate::load::check(&told)?;
    }
    Ok(options)
}

fn beside_this_program() -> PathBuf {
    let program = env::current_exe().ok();
    program.and_then(|it| it.parent().map(PathBuf::from)).unwrap_or_else(env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Options, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_options_or_are_refused() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/omb-simple.yaml");
        let options = told(&format!(
            "corelane kafka-flush --workload {file} {file} --rounds 2 --cores shared --rate max --verify"
        ));
        let options = options.expect("good");
        assert_eq!(options.subjects, [Subject::Corelane, Subject::KafkaFlush]);
        assert_eq!((options.workloads.len(), options.rounds, options.cores), (2, 2, Cores::Shared));
        assert_eq!(options.passed_on, ["--rate", "max", "--verify"]);
        let refused = |line: &str| told(line).expect_err("it cannot be meant");
        assert_eq!(
            refused("--workload a.yaml"),
            "which subjects? corelane, kafka, kafka-flush, tansu"
        );
        assert_eq!(refused("corelane"), "under which load? --workload FILE.yaml");
        assert_eq!(refused("corelane --rounds 0"), "--rounds: 0 is not a number of rounds");
        assert_eq!(refused("corelane --cores some"), "--cores: some is neither split nor shared");
        assert!(refused("redis").contains("a client of its own protocol"));
        assert!(refused("pulsar").starts_with("nobody is called pulsar"));
        assert!(refused("corelane --workload /no/such/file.yaml").contains("/no/such/file.yaml"));
        assert!(refused(&format!("corelane --workload {file} --seconds x")).contains("--seconds"));
    }
}
