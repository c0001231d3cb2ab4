//! The process's own log: its form, and its filter, which `log level` changes at run time.
//!
//! Lines go to standard error. A filter that says nothing understandable is refused and the present one stays.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

type Change = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// What changes the filter, and the filter as it was given.
static PRESENT: OnceLock<(Change, Mutex<String>)> = OnceLock::new();

/// Begins to log.
pub(crate) fn begin(filter: &str, format: LogFormat) -> Result<(), String> {
    let parsed = read(filter)?;
    let ansi = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_ansi(ansi).with_writer(std::io::stderr);
    let change: Change = match format {
        LogFormat::Text => {
            let builder = builder.with_env_filter(parsed).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_env_filter(parsed).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    // Called once, by the main thread.
    let _ = PRESENT.set((change, Mutex::new(filter.to_owned())));
    Ok(())
}

/// The present filter.
pub(crate) fn level() -> String {
    let present = PRESENT.get().map(|(_, text)| text.lock().unwrap_or_else(PoisonError::into_inner).clone());
    present.unwrap_or_default()
}

/// Changes the filter, until the process ends.
pub(crate) fn set_level(filter: &str) -> Result<(), String> {
    let parsed = read(filter)?;
    let Some((change, text)) = PRESENT.get() else { return Err("there is no log".to_owned()) };
    change(parsed)?;
    filter.clone_into(&mut text.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

fn read(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|error| {
        format!("{filter:?} is no filter: {error}; give a level (error, warn, info, debug, trace, off), or target=level pairs")
    })
}
