//! One librdkafka handle: made from properties, shared, destroyed on a thread of
//! its own.
//!
//! What holds: dropping the last reference never blocks the thread that drops
//! it; a consumer that is dropped leaves as if it had crashed.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::ptr::NonNull;
use std::thread;

use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as Response;

use super::Code;

/// Properties of a client, by librdkafka's names.
pub(in super::super) type Properties = Vec<(String, String)>;

/// What librdkafka says went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} ({code:?})")]
pub(in super::super) struct NativeError {
    pub(in super::super) code: Code,
    pub(in super::super) message: String,
}

impl NativeError {
    pub(in super::super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// An error whose code explains itself.
    pub(in super::super) fn of(code: Code) -> Self {
        Self {
            code,
            message: code.to_string(),
        }
    }

    pub(super) fn check(response: Response) -> Result<(), NativeError> {
        match response {
            Response::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            response => Err(Self::of(response.into())),
        }
    }

    /// Takes over an error object; null is success.
    ///
    /// # Safety
    /// `error` is null or an error object that nobody else destroys.
    pub(super) unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), NativeError> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: not null, and ours to destroy after the copies are made.
        unsafe {
            let code = sys::rd_kafka_error_code(error).into();
            let message = text(sys::rd_kafka_error_string(error));
            sys::rd_kafka_error_destroy(error);
            Err(Self { code, message })
        }
    }
}

/// A copy of a C text; empty for null, lossy where it is not UTF-8.
///
/// # Safety
/// `pointer` is null or a text that ends with NUL.
pub(super) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, ends with NUL.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// A C text of a name that has been checked to hold no NUL.
pub(super) fn c_text(text: &str) -> Result<CString, NativeError> {
    CString::new(text).map_err(|_| NativeError::new(Code::InvalidArgument, "a text must not hold NUL"))
}

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Role {
    Producer,
    Consumer,
}

/// A librdkafka handle.
pub(in super::super) struct NativeClient {
    pointer: NonNull<sys::rd_kafka_t>,
    role: Role,
}

// SAFETY: librdkafka's handles may be used from any thread at once.
unsafe impl Send for NativeClient {}
// SAFETY: as above.
unsafe impl Sync for NativeClient {}

impl NativeClient {
    /// A handle that reports its `events` (`RD_KAFKA_EVENT_*`) on queues. Does no I/O.
    pub(in super::super) fn new(role: Role, properties: &Properties, events: c_int) -> Result<Self, NativeError> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the configuration is ours until rd_kafka_new takes it; every text ends with NUL.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (name, value) in properties {
                let set = c_text(name).and_then(|name| Ok((name, c_text(value)?)));
                let outcome = set.and_then(|(name, value)| {
                    let outcome = sys::rd_kafka_conf_set(
                        conf,
                        name.as_ptr(),
                        value.as_ptr(),
                        message.as_mut_ptr(),
                        message.len(),
                    );
                    match outcome {
                        sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
                        _ => Err(NativeError::new(Code::InvalidArgument, text(message.as_ptr()))),
                    }
                });
                if let Err(error) = outcome {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(error);
                }
            }
            sys::rd_kafka_conf_set_events(conf, events);
            sys::rd_kafka_conf_set_log_cb(conf, Some(write_log));
            let kind = match role {
                Role::Producer => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                Role::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            };
            let pointer = sys::rd_kafka_new(kind, conf, message.as_mut_ptr(), message.len());
            let Some(pointer) = NonNull::new(pointer) else {
                sys::rd_kafka_conf_destroy(conf);
                return Err(NativeError::new(Code::InvalidArgument, text(message.as_ptr())));
            };
            Ok(Self { pointer, role })
        }
    }

    pub(super) fn pointer(&self) -> *mut sys::rd_kafka_t {
        self.pointer.as_ptr()
    }

    /// The fault that ended this handle for good, if any.
    pub(in super::super) fn fatal_error(&self) -> Option<NativeError> {
        let mut message = [0 as c_char; 512];
        // SAFETY: the buffer is as long as it is said to be.
        let response = unsafe { sys::rd_kafka_fatal_error(self.pointer(), message.as_mut_ptr(), message.len()) };
        // SAFETY: librdkafka ends the text with NUL.
        NativeError::check(response)
            .err()
            .map(|error| NativeError::new(error.code, unsafe { text(message.as_ptr()) }))
    }

    /// Ends the handle as a fatal fault would, for tests.
    #[cfg(test)]
    pub(in super::super) fn fail_fatally(&self) {
        let response = Response::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the text ends with NUL.
        unsafe { sys::rd_kafka_test_fatal_error(self.pointer(), response, c"of a test".as_ptr()) };
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        /// A handle on its way to the thread that destroys it.
        struct Doomed(NonNull<sys::rd_kafka_t>);
        // SAFETY: nobody else has it any more.
        unsafe impl Send for Doomed {}
        impl Doomed {
            fn destroy(self, flags: c_int) {
                // SAFETY: the last reference; queues and events hold one each and are gone.
                unsafe { sys::rd_kafka_destroy_flags(self.0.as_ptr(), flags) };
            }
        }
        let flags = match self.role {
            Role::Consumer => sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE,
            Role::Producer => 0,
        };
        let doomed = Doomed(self.pointer);
        // Destroying waits for librdkafka's threads, up to the end of a connection attempt.
        let spawned = thread::Builder::new()
            .name("kafka-destroy".to_owned())
            .spawn(move || doomed.destroy(flags));
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to destroy a Kafka client with: it is left behind");
        }
    }
}

impl fmt::Debug for NativeClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NativeClient")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// librdkafka's log lines, on whichever of its threads they arise.
unsafe extern "C" fn write_log(
    _client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: librdkafka passes texts that end with NUL.
    let (facility, line) = unsafe { (text(facility), text(line)) };
    match level {
        0..=3 => tracing::warn!(target: "kafka", facility, "{line}"),
        4 | 5 => tracing::info!(target: "kafka", facility, "{line}"),
        _ => tracing::debug!(target: "kafka", facility, "{line}"),
    }
}
