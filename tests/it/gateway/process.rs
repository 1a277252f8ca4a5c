//! The program itself: its reloads, its output, its end.

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{KEY, Setup, chat, scripted, secret};
use crate::support::process::Process;

const CREDENTIAL: &str = "sk-of-the-backend-42";

#[tokio::test]
async fn a_life_of_the_program() {
    let backend = scripted().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tollgate.toml");
    let setup = || Setup::default().backend("main", backend.local_addr(), "api_key = { env = \"THEIRS\" }");
    // By a rename, so that half of it is never read.
    let write = |text: &str| {
        let new = dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    write(&setup().key(KEY, "").key("other", "").toml());
    let mut process = Process::spawn(&path, &[], &[("THEIRS", CREDENTIAL), ("TOLLGATE_LOG", "debug")]);
    let at = process.listens().await;
    assert_eq!(at.call(&chat(false, "")).await.head.status, 200);

    // A file that is wrong is told about, and the one in use stays.
    write("[server]\nlisten = 7\ncolour = \"red\"\n");
    process.says("reload refused").await;
    process.says("reload refused").await;
    assert!(
        process.logged.contains("colour") && process.logged.contains("listen"),
        "{}",
        process.logged
    );
    assert_eq!(at.call(&chat(false, "")).await.head.status, 200);
    assert!(
        at.metrics()
            .await
            .contains("tollgate_config_reloads_total{result=\"refused\"} 1")
    );

    // A file that is right takes effect, whether it was noticed or a signal told of it.
    write(&setup().key("other", "").toml());
    process.says("the configuration was reloaded").await;
    at.call(&chat(false, "")).await.refused(401, "key_invalid");
    process.signal("HUP").await;
    process.says("the configuration was reloaded").await;
    assert!(
        at.metrics()
            .await
            .contains("tollgate_config_reloads_total{result=\"ok\"} 2")
    );

    // What fails, and what is said in it, is nobody's business but the client's.
    for script in [
        "",
        "fault=status:400",
        "fault=status:500",
        "fault=cut",
        "fault=cut:2",
        "fault=gzip",
    ] {
        for stream in [true, false] {
            let ask = Ask::chat(stream, script).by("other").field("x-hidden", "hush-header");
            let mut client = Client::at(at.http, Speaks::Close).await;
            client.start(&ask).await;
            client.head().await.unwrap();
            let _ = client.rest().await;
        }
    }

    process.signal("TERM").await;
    let (code, written) = process.end().await;
    assert_eq!(code, Some(0), "{written}");
    assert!(written.contains("an attempt failed") && written.contains("\"chat.completions\""));
    for hidden in [
        CREDENTIAL,
        &secret(KEY),
        &secret("other"),
        "How are you",
        "word7",
        "hush-header",
        "The scripted backend",
    ] {
        let line = written.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tollgate.toml");
    std::fs::write(&path, "[server]\nlisten = 7\ncolour = \"red\"\n").unwrap();
    let (code, said) = Process::spawn(&path, &[], &[]).end().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("tollgate.toml:2") && said.contains("colour"), "{said}");
}
