//! What anyone may know: how credits count, what is announced, and where the rest is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Refusal, Shared, Shown};
use crate::admin::times;
use crate::store::{Notice, Page, SharedStore};

/// How long announcements are told without asking the store again: anyone may ask for them, as often as they like.
const FRESH: Duration = Duration::from_secs(5);
/// How many announcements are told.
const MOST: u32 = 20;

/// Announcements as they were last read.
#[derive(Default)]
pub(super) struct Board {
    read: ArcSwapOption<Read>,
    reading: AtomicBool,
}

struct Read {
    notices: Vec<Notice>,
    at: Instant,
}

#[derive(Serialize)]
pub(super) struct StatusAnswer {
    success: bool,
    message: &'static str,
    data: StatusData,
}

#[derive(Serialize)]
struct StatusData {
    system_name: &'static str,
    /// Credits of one US dollar.
    quota_per_unit: u64,
    display_in_currency: bool,
    announcements_enabled: bool,
    announcements: Vec<Announcement>,
}

#[derive(Serialize)]
struct Announcement {
    id: String,
    content: String,
    #[serde(rename = "publishDate")]
    publish_date: String,
    r#type: &'static str,
}

#[derive(Serialize)]
pub(super) struct NoticeAnswer {
    success: bool,
    message: &'static str,
    data: String,
}

/// `GET /api/status`.
pub(super) async fn status(State(shared): State<Shared>) -> Result<Shown<StatusAnswer>, Refusal> {
    let read = shared.0.board.read(&shared.0.store).await?;
    let announcements = read.notices.iter().map(|notice| Announcement {
        id: notice.id.to_string(),
        content: notice.text.clone(),
        publish_date: times::shown(notice.created),
        r#type: "default",
    });
    Ok(Shown(StatusAnswer {
        success: true,
        message: "",
        data: StatusData {
            system_name: "Tollgate",
            quota_per_unit: shared.config().credits.per_usd.get(),
            display_in_currency: true,
            announcements_enabled: true,
            announcements: announcements.collect(),
        },
    }))
}

/// `GET /api/notice`: the newest announcement.
pub(super) async fn notice(State(shared): State<Shared>) -> Result<Shown<NoticeAnswer>, Refusal> {
    let read = shared.0.board.read(&shared.0.store).await?;
    Ok(Shown(NoticeAnswer {
        success: true,
        message: "",
        data: read
            .notices
            .first()
            .map(|notice| notice.text.clone())
            .unwrap_or_default(),
    }))
}

/// `GET /llms.txt`: an index of the API for language models and people (<https://llmstxt.org>).
pub(super) async fn index() -> Response {
    const HEADERS: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (HEADERS, include_str!("llms.txt")).into_response()
}

impl Board {
    /// The announcements: as they were a moment ago, or, when the store does not answer, as they last were.
    async fn read(&self, store: &SharedStore) -> Result<Arc<Read>, Refusal> {
        let last = self.read.load_full();
        if let Some(last) = &last {
            // One asks; whoever comes meanwhile is told what is known.
            if last.at.elapsed() < FRESH || self.reading.swap(true, Ordering::AcqRel) {
                return Ok(Arc::clone(last));
            }
        }
        let _done = Done(&self.reading);
        let page = Page {
            before: None,
            limit: MOST,
        };
        let notices = match (store.notices(page).await, last) {
            (Ok(notices), _) => notices,
            (Err(_), Some(last)) => last.notices.clone(),
            (Err(error), None) => return Err(error.into()),
        };
        let read = Arc::new(Read {
            notices,
            at: Instant::now(),
        });
        self.read.store(Some(Arc::clone(&read)));
        Ok(read)
    }
}

/// Nobody asks any more, also when whoever did has left.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
