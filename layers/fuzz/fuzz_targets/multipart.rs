//! A form that passes has one model, in one place: put another there, and it is read instead.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tollgate_layers::model::Form;
use tollgate_layers::splice::splice;
use tollgate_layers_fuzz::asked;

const KIND: &str = "multipart/form-data; boundary=B";

fuzz_target!(|input: (bool, &[u8])| {
    let (framed, text) = input;
    // Most of what is random is no form: half of the time it is put into one.
    let body = if framed {
        let (head, tail) = text.split_at(text.len() / 2);
        let part = b"\r\n--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--B";
        Bytes::from([b"--B\r\nContent-Disposition: form-data; name=", head, part, tail, b"--\r\n"].concat())
    } else {
        Bytes::copy_from_slice(text)
    };
    let Ok(first) = asked(KIND, body.clone()) else { return };
    assert!(!first.model.is_empty() && first.form == Form::Multipart);
    let Some(edit) = first.with_model("other") else { return };
    assert_eq!(&body[edit.range.clone()], first.model.as_bytes());
    let second = asked(KIND, splice(&body, &mut [edit])).expect("a form in, a form out");
    assert_eq!((&*second.model, second.stream, second.n), ("other", first.stream, first.n));
});
