//! The words after `run`.

use super::section::nearest;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
corelane-bench run FILE.yaml: one workload against one broker

  -b, --broker HOST:PORT[,..]  where the broker is (127.0.0.1:9092)
      --seconds N              how long is measured, instead of what the file says
      --warm-up N              how long the load runs before that, in seconds
      --rate N|max             records in a second, instead of what the file says
      --verify                 every record has to be seen once, in order
      --json FILE              append the result to FILE as one line of JSON; - is stdout
      --broker-pid PID         measure this process too
      --keep-topics            leave the topics of the run behind
      --threads N              cores the load may use (all this process may)
      --subject NAME           what is measured, for the result (kafka-protocol)
      --subject-version TEXT   and in which version
      --round N                and the how manieth time
      --ack-means WHAT         what an acknowledgement means there: memory, page_cache or flushed

Ends with 0; 1 when verification failed or the run broke; 2 when it was asked wrongly; 3 when no broker
answered.
";

/// What the result is labelled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) subject: String,
    pub(crate) subject_version: Option<String>,
    pub(crate) round: u32,
    pub(crate) ack_means: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) file: PathBuf,
    pub(crate) brokers: Vec<String>,
    pub(crate) seconds: Option<f64>,
    pub(crate) warm_up: Option<f64>,
    /// None: as the file says; zero: as fast as it goes.
    pub(crate) rate: Option<f64>,
    pub(crate) verify: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) broker_pid: Option<u32>,
    pub(crate) keep_topics: bool,
    pub(crate) threads: Option<usize>,
    pub(crate) labels: Labels,
}

const OPTIONS: &[&str] = &[
    "--broker",
    "--seconds",
    "--warm-up",
    "--rate",
    "--verify",
    "--json",
    "--broker-pid",
    "--keep-topics",
    "--threads",
    "--subject",
    "--subject-version",
    "--round",
    "--ack-means",
];

const SECONDS_MAX: f64 = 7.0 * 86_400.0;
const RATE_MAX: f64 = 1e9;
const ACK_MEANS: [&str; 3] = ["memory", "page_cache", "flushed"];

pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        file: PathBuf::new(),
        brokers: vec!["127.0.0.1:9092".to_owned()],
        seconds: None,
        warm_up: None,
        rate: None,
        verify: false,
        json: None,
        broker_pid: None,
        keep_topics: false,
        threads: None,
        labels: Labels {
            subject: "kafka-protocol".to_owned(),
            subject_version: None,
            round: 1,
            ack_means: None,
        },
    };
    let mut words = words.iter().map(String::as_str);
    let mut file = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "-b" | "--broker" => {
                options.brokers = value()?.split(',').map(str::to_owned).collect();
            }
            "--seconds" => options.seconds = Some(number(word, value()?, 1.0, SECONDS_MAX)?),
            "--warm-up" => options.warm_up = Some(number(word, value()?, 0.0, SECONDS_MAX)?),
            "--rate" => {
                options.rate = Some(match value()? {
                    "max" => 0.0,
                    text => number(word, text, f64::MIN_POSITIVE, RATE_MAX)?,
                });
            }
            "--verify" => options.verify = true,
            "--json" => options.json = Some(PathBuf::from(value()?)),
            "--broker-pid" => options.broker_pid = Some(whole(word, value()?)?),
            "--keep-topics" => options.keep_topics = true,
            "--threads" => {
                let threads = whole(word, value()?)? as usize;
                if !(1..=1_024).contains(&threads) {
                    return Err(format!("{word}: {threads} is not from 1 to 1024"));
                }
                options.threads = Some(threads);
            }
            "--subject" => options.labels.subject = value()?.to_owned(),
            "--subject-version" => options.labels.subject_version = Some(value()?.to_owned()),
            "--round" => options.labels.round = whole(word, value()?)?,
            "--ack-means" => {
                let text = value()?;
                if !ACK_MEANS.contains(&text) {
                    return Err(format!("{word}: {text} is none of {}", ACK_MEANS.join(", ")));
                }
                options.labels.ack_means = Some(text.to_owned());
            }
            other if other.starts_with('-') => {
                return Err(match nearest(other, OPTIONS) {
                    Some(near) => format!("there is no option {other}; did you mean {near}?"),
                    None => format!("there is no option {other}"),
                });
            }
            path if file.is_none() => file = Some(PathBuf::from(path)),
            more => return Err(format!("one workload at a time; what is {more}?")),
        }
    }
    options.file = file.ok_or_else(|| "which workload? run FILE.yaml".to_owned())?;
    Ok(options)
}

pub(crate) fn number(option: &str, text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|_| format!("{option}: {text} is not a number"))?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{option}: {number} is not from {least} to {most}"))
    }
}

fn whole(option: &str, text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{option}: {text} is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<Options, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_options_or_are_refused() {
        let options = told("a.yaml -b x:1,y:2 --seconds 5 --rate max --verify").expect("good");
        assert_eq!(options.file, PathBuf::from("a.yaml"));
        assert_eq!(options.brokers, ["x:1", "y:2"]);
        assert_eq!((options.seconds, options.rate, options.verify), (Some(5.0), Some(0.0), true));
        for (line, why) in [
            ("", "which workload? run FILE.yaml"),
            ("a.yaml b.yaml", "one workload at a time; what is b.yaml?"),
            ("a.yaml --second 5", "there is no option --second; did you mean --seconds?"),
            ("a.yaml --seconds", "--seconds needs a value"),
            ("a.yaml --seconds 0", "--seconds: 0 is not from 1 to 604800"),
            ("a.yaml --rate fast", "--rate: fast is not a number"),
            ("a.yaml --ack-means so", "--ack-means: so is none of memory, page_cache, flushed"),
        ] {
            assert_eq!(told(line), Err(why.to_owned()), "{line}");
        }
    }
}
