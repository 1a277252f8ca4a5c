//! What of a request is charged for beside tokens: images, characters, seconds.

use std::borrow::Cow;

use serde::Deserialize;

use super::openai::Endpoint;

/// What OpenAI makes when a request does not say.
const QUALITY: &str = "standard";
const SIZE: &str = "1024x1024";

/// Bytes of a second of compressed speech at 32 kbit/s, below what recorders write: what a file's length is guessed by,
/// until the answer tells it.
const BYTES_A_SECOND: u64 = 4_000;

/// What a request asks for that is counted before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// The kind of image, as `quality:size`.
    pub image: Option<String>,
    /// Characters to be spoken.
    pub characters: u64,
    /// The guessed length of what is to be heard, in milliseconds.
    pub milliseconds: u64,
}

/// The members of a request that say what kind of thing is made. What has another type is the backend's to refuse, and
/// counts as not said.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    quality: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    size: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    input: Option<Cow<'a, str>>,
}

/// Reads what is charged for out of a body that was found to be JSON, or else a multipart form.
pub fn billed(endpoint: Endpoint, body: &[u8], json: bool) -> Billed {
    match endpoint {
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits | Endpoint::ImagesVariations => {
            let (quality, size) = if json {
                let asked = asked(body);
                (
                    asked.as_ref().and_then(|a| a.quality.clone()),
                    asked.and_then(|a| a.size),
                )
            } else {
                (field(body, "quality"), field(body, "size"))
            };
            let quality = quality
                .as_deref()
                .filter(|quality| *quality != "auto")
                .unwrap_or(QUALITY);
            let size = size.as_deref().filter(|size| *size != "auto").unwrap_or(SIZE);
            Billed {
                image: Some(format!("{quality}:{size}")),
                ..Billed::default()
            }
        }
        Endpoint::AudioSpeech => Billed {
            characters: asked(body)
                .and_then(|asked| asked.input)
                .map_or(0, |input| input.chars().count() as u64),
            ..Billed::default()
        },
        Endpoint::AudioTranscriptions | Endpoint::AudioTranslations => Billed {
            milliseconds: (body.len() as u64 * 1_000).div_ceil(BYTES_A_SECOND),
            ..Billed::default()
        },
        _ => Billed::default(),
    }
}

fn asked(body: &[u8]) -> Option<Asked<'_>> {
    serde_json::from_slice(body).ok()
}

/// A text, whatever else stands there counting as none.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(match value {
        serde_json::Value::String(text) => Some(Cow::Owned(text)),
        _ => None,
    })
}

/// The short text of a form's field. The form was read before: this looks for the one place where it can stand.
fn field<'a>(body: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let head = format!("name=\"{name}\"");
    let at = memchr::memmem::find(body, head.as_bytes())? + head.len();
    let rest = &body[at..];
    let value = &rest[memchr::memmem::find(rest, b"\r\n\r\n")? + 4..];
    let end = memchr::memmem::find(value, b"\r\n")?;
    str::from_utf8(&value[..end]).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(body: &str) -> Option<String> {
        billed(Endpoint::ImagesGenerations, body.as_bytes(), true).image
    }

    #[test]
    fn images_are_charged_by_quality_and_size() {
        let hd = r#"{"model":"m","quality":"hd","size":"1024x1792"}"#;
        assert_eq!(image(hd).as_deref(), Some("hd:1024x1792"));
        assert_eq!(image(r#"{"size":"256x256"}"#).as_deref(), Some("standard:256x256"));
        assert_eq!(
            image(r#"{"size":"auto","quality":7}"#).as_deref(),
            Some("standard:1024x1024")
        );
    }

    #[test]
    fn forms_are_read() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"size\"\r\n\r\n512x512\r\n--x--\r\n";
        let billed = billed(Endpoint::ImagesEdits, form.as_bytes(), false);
        assert_eq!(billed.image.as_deref(), Some("standard:512x512"));
    }

    #[test]
    fn speech_is_charged_by_characters_not_bytes() {
        let body = r#"{"input":"Gr\u00fc\u00dfe ☕"}"#;
        assert_eq!(billed(Endpoint::AudioSpeech, body.as_bytes(), true).characters, 7);
    }
}
