use super::*;

/// Goal: questions that differ in a number, a letter or a negation differ in their marks, others do not. Method: pairs of each kind.
#[test]
fn marks_tell_apart() {
    let differ = [
        ("What was the revenue in 2021?", "What was the revenue in 2022?"),
        ("What is hepatitis A?", "What is hepatitis B?"),
        ("What is type II diabetes?", "What is type III diabetes?"),
        ("How is small cell cancer treated?", "How is non-small cell cancer treated?"),
        ("What is the dose of 10mg tablets?", "What is the dose of 20mg tablets?"),
    ];
    for (a, b) in differ {
        assert_ne!(marks_key(a), marks_key(b), "{a} / {b}");
    }
    let same = [
        ("What causes asthma?", "What triggers asthma?"),
        ("A dog is what?", "What is a dog?"),
        ("WHAT IS A DOG?", "What is a dog?"),
        ("Between 3 and 7?", "7 and 3, between?"),
        ("What can I do?", "What can you do?"),
    ];
    for (a, b) in same {
        assert_eq!(marks_key(a), marks_key(b), "{a} / {b}");
    }
}
