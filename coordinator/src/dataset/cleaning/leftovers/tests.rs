use super::*;

fn copied(text: &str) -> Option<String> {
    let template = "Write one question that the following text answers, and its answer, in the form Question: ... Answer: ...";
    Prompt::new(template).copied(text, &mut Words::default())
}

/// Goal: labels, talk of the model and the prompt's own words are found, ordinary texts are not. Method: some of each.
#[test]
fn prompts() {
    for text in [
        "**Question:** What is a pump?",
        "A pump.\nAnswer: a machine",
        "As an AI language model, I have no access.",
        "Write one question that the following text answers: pumps",
    ] {
        assert!(copied(text).is_some(), "{text}");
    }
    for text in ["What is the answer: yes or no?", "The following text answers it", "A language model is trained on text.", ""] {
        assert_eq!(copied(text), None, "{text}");
    }
    assert_eq!(Prompt::new("").copied("Any text at all of more than eight words in a row", &mut Words::default()), None);
}

/// Goal: keys are found, digests, names and the document's own tokens are not. Method: tokens made up for the test.
#[test]
fn secrets() {
    let unknown = "q8Zr2LmX0pVb7TnC4wKd9FhJ1sGy6EuA";
    for text in [
        format!("The key is AIza{}", "Sy0123456789abcdefghijklmnopqrstuvw"),
        format!("export TOKEN=ghp_{}", "0123456789abcdefghijABCDEFGHIJ012345"),
        format!("use sk-{} here", "proj-0123456789abcdef0123"),
        format!("password: {unknown}."),
        "-----BEGIN RSA PRIVATE KEY-----".to_owned(),
    ] {
        assert!(secret(&text, "a chunk").is_some(), "{text}");
    }
    assert!(secret("The API key is [key].", "a chunk").is_some(), "the server's key, blotted out");
    assert_eq!(secret("Press [key] twice.", "Each [key] is pressed twice."), None);
    assert_eq!(secret(unknown, &format!("the sample token {unknown} of the manual")), None);
    for text in [
        "sk-learn is a library",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "Donaudampfschifffahrtsgesellschaft2",
    ] {
        assert_eq!(secret(text, "a chunk"), None, "{text}");
    }
}
