//! Log lines on standard error, as text or JSON. What is worth a line is for those who log; spans are not exported.
//!
//! What holds: one event is one line, and no control character from a field reaches the terminal or forges a second
//! line, for field values come from clients. In text they are escaped as Rust does (`\n`, `\u{1b}`), in JSON as JSON
//! does.

use std::fmt::{self, Write as _};
use std::io;

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::util::SubscriberInitExt;

/// Libraries that tell of their daily work at `info`, which is no operator's concern. A filter that names one wins.
const QUIET_LIBRARIES: &str = "fjall=warn,lsm_tree=warn";

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The shape of a line.
    pub format: LogFormat,
    /// What to log, in the words of `tracing`'s filter, such as `info` or `warn,meridian_gateway=debug`.
    pub filter: String,
    /// Whether text is coloured, for terminals; JSON never is.
    pub colour: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
            colour: false,
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter makes no sense.
    #[error(
        "log filter `{filter}` is not valid: {reason}; write a level such as `info`, or `warn,meridian_gateway=debug`"
    )]
    Filter {
        /// As written.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging is set up once a process, and was.
    #[error("logging was already set up in this process")]
    AlreadySet,
}

/// Sets up logging to standard error for the whole process, for what logs through `tracing` and through `log`. This is
/// the one thing here that is global, for `tracing` makes it so.
pub fn init_tracing(options: &LogOptions) -> Result<(), TelemetryError> {
    let subscriber = subscriber(options, io::stderr)?;
    subscriber.try_init().map_err(|_| TelemetryError::AlreadySet)
}

/// A subscriber that writes elsewhere, for tests and for programs that set up their own.
pub fn subscriber<W>(options: &LogOptions, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{}", options.filter)).map_err(|error| {
        TelemetryError::Filter {
            filter: options.filter.clone(),
            reason: error.to_string(),
        }
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    Ok(match options.format {
        LogFormat::Text => Box::new(
            builder
                .with_ansi(options.colour)
                .fmt_fields(format::debug_fn(write_field).delimited(" "))
                .with_writer(writer)
                .finish(),
        ),
        LogFormat::Json => Box::new(
            builder
                .with_ansi(false)
                .json()
                .flatten_event(false)
                .with_current_span(true)
                .with_span_list(false)
                .with_writer(EscapeJson(writer))
                .finish(),
        ),
    })
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    write!(EscapeText(writer), "{value:?}")
}

/// Escapes control characters on the way through.
struct EscapeText<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for EscapeText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            self.0.write_str(&rest[..at])?;
            let mut after = rest[at..].chars();
            if let Some(character) = after.next() {
                write!(self.0, "{}", character.escape_debug())?;
            }
            rest = after.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, and those that reorder or break a line as it is shown.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes what JSON allows but a terminal may obey: DEL, the C1 controls, and what reorders a line.
struct EscapeJson<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for EscapeJson<W> {
    type Writer = EscapeJsonWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapeJsonWriter(self.0.make_writer())
    }
}

/// The writer of one line; `tracing-subscriber` writes a line in one call, so a character is never cut in two.
struct EscapeJsonWriter<W>(W);

impl<W: io::Write> io::Write for EscapeJsonWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        // Every control character that JSON itself forbids is escaped already, but for the newline at the end.
        if !text.contains(|character| character != '\n' && is_unsafe(character)) {
            self.0.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for character in text.chars() {
            if character != '\n' && is_unsafe(character) {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            } else {
                escaped.push(character);
            }
        }
        self.0.write_all(escaped.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(format: LogFormat, log: impl FnOnce()) -> String {
        lines_under("info", format, log)
    }

    fn lines_under(filter: &str, format: LogFormat, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let options = LogOptions {
            format,
            filter: filter.to_owned(),
            ..LogOptions::default()
        };
        let subscriber = subscriber(&options, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const EVIL: &str = "a\nINFO forged\u{1b}[31m\u{9b}2J\u{7f}\u{202e}é";

    fn log_evil() {
        let span = tracing::info_span!("request", peer = %EVIL);
        let _entered = span.enter();
        tracing::info!(topic = %EVIL, quoted = EVIL, "said {EVIL}");
    }

    #[test]
    fn a_library_of_much_talk_speaks_when_it_is_asked_or_worried() {
        let log = || {
            tracing::info!(target: "fjall::db", "opened");
            tracing::warn!(target: "lsm_tree::tree", "slow");
        };
        let told = lines(LogFormat::Text, log);
        assert!(!told.contains("opened") && told.contains("slow"), "{told}");
        assert!(lines_under("info,fjall=info", LogFormat::Text, log).contains("opened"));
        assert_eq!(lines_under("error", LogFormat::Text, || tracing::warn!("hm")), "");
    }

    #[test]
    fn text_is_one_line_without_control_characters() {
        let text = lines(LogFormat::Text, log_evil);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(is_unsafe), "{text:?}");
        assert!(
            text.contains("topic=a\\nINFO forged\\u{1b}[31m\\u{9b}2J\\u{7f}\\u{202e}é"),
            "{text}"
        );
        assert!(text.contains("said a\\nINFO"), "{text}");
        assert!(text.contains("peer=a\\nINFO"), "{text}");
    }

    #[test]
    fn json_is_one_object_without_control_characters_and_loses_nothing() {
        let text = lines(LogFormat::Json, log_evil);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(is_unsafe), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["fields"]["topic"], EVIL);
        assert_eq!(line["fields"]["message"], format!("said {EVIL}"));
        assert_eq!(line["span"]["peer"], EVIL);
    }

    #[test]
    fn the_filter_is_kept_and_a_bad_one_refused() {
        let text = lines(LogFormat::Text, || {
            tracing::debug!("hidden");
            tracing::warn!("shown");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
        let bad = LogOptions {
            filter: "gateway=loud".to_owned(),
            ..LogOptions::default()
        };
        let error = subscriber(&bad, io::stderr).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().starts_with("log filter `gateway=loud` is not valid"),
            "{error}"
        );
    }
}
