//! Named places at which a test breaks a request: one at every await of a request's life.
//!
//! A place is written `failpoint::at!(points, Name)` where what is awaited can fail, and `failpoint::pass!(points, Name)`
//! where it cannot. [`Point`] is the registry: a test walks [`Point::ALL`] and says for each how a request gets there, so that a
//! new place without a case does not compile. Without the feature `failpoints` the macros are nothing, and there is neither
//! a registry nor anything to arm.
//!
//! Not the crate `fail`: its places are one table of strings for the whole process, so that tests in one process would
//! break each other's requests; it cannot list the places that there are; and where it waits, it blocks the thread. Here every
//! gateway has [`Failpoints`] of its own, and what hangs is a future.

#[cfg(feature = "failpoints")]
mod armed;
#[cfg(feature = "failpoints")]
mod points;

#[cfg(feature = "failpoints")]
pub use self::armed::{Action, Failed, Failpoints};
#[cfg(feature = "failpoints")]
pub use self::points::Point;

/// What is armed: nothing, in this build.
#[cfg(not(feature = "failpoints"))]
#[derive(Clone, Debug, Default)]
pub struct Failpoints;

/// What is awaited failed, as a test told it to: never, in this build.
#[cfg(not(feature = "failpoints"))]
#[derive(Clone, Copy, Debug)]
pub enum Failed {}

/// Stands before an await that can fail: `Err(Failed)` where a test has armed it so.
#[cfg(feature = "failpoints")]
macro_rules! at {
    ($points:expr, $point:ident) => {
        $points.reach($crate::failpoint::Point::$point).await
    };
}

/// Stands before an await that cannot fail.
#[cfg(feature = "failpoints")]
macro_rules! pass {
    ($points:expr, $point:ident) => {
        $points.pass($crate::failpoint::Point::$point).await
    };
}

/// Stands before an await that can fail: nothing, in this build.
#[cfg(not(feature = "failpoints"))]
macro_rules! at {
    ($points:expr, $point:ident) => {{
        let _ = &$points;
        Ok::<(), $crate::failpoint::Failed>(())
    }};
}

/// Stands before an await that cannot fail: nothing, in this build.
#[cfg(not(feature = "failpoints"))]
macro_rules! pass {
    ($points:expr, $point:ident) => {{
        let _ = &$points;
    }};
}

pub(crate) use {at, pass};

/// Where what is awaited fails with text.
impl From<Failed> for std::io::Error {
    fn from(_: Failed) -> Self {
        Self::other("a failpoint")
    }
}
