use proptest::prelude::*;

use super::*;

fn pairs(reply: &str) -> Vec<(String, String)> {
    let found = parse(reply, false).unwrap_or_else(|e| panic!("{e} in {reply:?}"));
    found.into_iter().map(|pair| (pair.question, pair.answer)).collect()
}

fn is(reply: &str, wanted: &[(&str, &str)]) {
    let wanted: Vec<(String, String)> = wanted.iter().map(|(q, a)| ((*q).into(), (*a).into())).collect();
    assert_eq!(pairs(reply), wanted, "in {reply:?}");
}

fn malformed(reply: &str) -> String {
    match parse(reply, false) {
        Ok(found) => panic!("{found:?} in {reply:?}"),
        Err(reason) => reason.to_string(),
    }
}

/// Goal: one pair is found in every spelling of the text form. Method: a list of spellings that models use.
#[test]
fn one_pair_in_many_spellings() {
    for reply in [
        "Question: What is X? Answer: It is Y.",
        "Question: What is X?\nAnswer: It is Y.",
        "**Question:** What is X?\n\n**Answer:** It is Y.",
        "**Question**: What is X?\n**Answer**: It is Y.",
        "**Question: What is X?**\n\nAnswer: It is Y.",
        "**Question:** What is X? **Answer:** It is Y.",
        "__Question__: What is X?\n__Answer__: It is Y.",
        "Q: What is X?\nA: It is Y.",
        "Q: What is X? A: It is Y.",
        "Q1. What is X?\nA1. It is Y.",
        "Q. What is X?\nA. It is Y.",
        "Q1: What is X?\nA1: It is Y.",
        "1. Question: What is X?\n   Answer: It is Y.",
        "1) **Question:** What is X?\n   - **Answer:** It is Y.",
        "## Question\nWhat is X?\n\n## Answer\nIt is Y.",
        "### Question 1\n\nWhat is X?\n\n### Answer 1\n\nIt is Y.\n\n---",
        "Question 1 - What is X?\nAnswer 1 - It is Y.",
        "Question \u{2013} What is X?\nAnswer \u{2014} It is Y.",
        "question: What is X?\nanswer: It is Y.",
        "QUESTION: What is X?\nANSWER: It is Y.",
        "Question\u{ff1a}What is X?\nAnswer\u{ff1a}It is Y.",
        "Question (natural): What is X?\nAnswer: It is Y.",
        "[Question]: What is X?\n[Answer]: It is Y.",
        "Question: [What is X?]\nAnswer: [It is Y.]",
        "Question: \"What is X?\"\nAnswer: \"It is Y.\"",
        "> Question: What is X?\n> Answer: It is Y.",
        "Sure! Here is a question and its answer:\n\nQuestion: What is X?\nAnswer: It is Y.",
        "```\nQuestion: What is X?\nAnswer: It is Y.\n```",
        "What is X?\nAnswer: It is Y.",
        "**What is X?**\n\n**Answer:** It is Y.",
        "<think>Question: no. Answer: no.</think>\nQuestion: What is X?\nAnswer: It is Y.",
        "\u{feff}Question: What\nis X?\r\nAnswer: It is Y.\r\n",
        "Query: What is X?\nAns: It is Y.",
    ] {
        is(reply, &[("What is X?", "It is Y.")]);
    }
}

/// Goal: several pairs come apart where they should. Method: lists, headings, one line, questions without labels.
#[test]
fn several_pairs() {
    let two = [("What is X?", "It is Y."), ("Why?", "So.")];
    for reply in [
        "Question: What is X?\nAnswer: It is Y.\n\nQuestion: Why?\nAnswer: So.",
        "1. Question: What is X?\n   Answer: It is Y.\n2. Question: Why?\n   Answer: So.",
        "**Q1:** What is X?\n**A1:** It is Y.\n\n**Q2:** Why?\n**A2:** So.",
        "Q1: What is X? A1: It is Y. Q2: Why? A2: So.",
        "1. What is X?\n   Answer: It is Y.\n2. Why?\n   Answer: So.",
        "## Question 1\nWhat is X?\n## Answer 1\nIt is Y.\n## Question 2\nWhy?\n## Answer 2\nSo.",
        "Question: What is X?\nAnswer: It is Y.\n---\nQuestion: Why?\nAnswer: So.\n---\n",
        "Question: Lost?\nQuestion: What is X?\nAnswer: It is Y.\nQuestion: N/A\nAnswer: N/A\nQ: Why?\nA: So.\nQ: And?",
    ] {
        is(reply, &two);
    }
}

/// Goal: labels within a text are words. Method: answers and questions that hold such words.
#[test]
fn words_that_are_no_labels() {
    is(
        "Question: What is X?\nAnswer: A. Smith says: Question: everything.",
        &[("What is X?", "A. Smith says: Question: everything.")],
    );
    is(
        "Question: What does a question: or an answer: mean?\nAnswer: Answer the question - always.",
        &[("What does a question: or an answer: mean?", "Answer the question - always.")],
    );
    is(
        "Q: What is 2 ** 3 or 2**3?\nA: It is 8.\n\nA dog is not asked.",
        &[("What is 2 ** 3 or 2**3?", "It is 8.\n\nA dog is not asked.")],
    );
    is("Question: Which call?\nAnswer: Send {\"a\": 1} to it.", &[("Which call?", "Send {\"a\": 1} to it.")]);
    is("Question: Who?\nAnswer: Two of them:\n- **Ann**\n- Bob", &[("Who?", "Two of them:\n- Ann\n- Bob")]);
    is("Question: Who?\nA. Smith or\nAnswer: It was\nA. Smith.", &[("Who? A. Smith or", "It was\nA. Smith.")]);
    is("Q. Who?\nA. It was\nA. Smith.", &[("Who?", "It was\nA. Smith.")]);
    is("1.5 kg of what?\nAnswer: Salt.", &[("1.5 kg of what?", "Salt.")]);
}

/// Goal: JSON is read however it is wrapped and spelled. Method: objects, lists, fences, prose, spellings of keys.
#[test]
fn json_forms() {
    for reply in [
        r#"{"question": "What is X?", "answer": "It is Y."}"#,
        r#"{"pairs": [{"question": "What is X?", "answer": "It is Y."}]}"#,
        r#"[{"Question": "What is X?", "Answer": "It is Y."}]"#,
        r#"{"q": "What is X?", "a": "It is Y."}"#,
        r#"{"qa_pairs": {"1": {"query": "What is X?", "response": "It is Y."}}}"#,
        r#"{"question_1": "What is X?", "answer_1": "It is Y."}"#,
        "```json\n{\"question\": \"What is X?\", \"answer\": \"It is Y.\"}\n```",
        "```\n[{\"question\": \"What is X?\", \"answer\": \"It is Y.\"}]\n```",
        "Here you are: {\"question\": \"What is X?\", \"answer\": \"It is Y.\"} I hope it helps.",
        "Here [1] is {it}: {\"question\": \"What is X?\", \"answer\": \"It is Y.\"}",
        "{\"pairs\": [{\"question\": \"What is X?\", \"answer\": \"It is Y.\"}, {\"question\": \"N/A\", \"answer\": \"N/A\"}]}",
        "{\"pairs\": [{\"question\": \"What is X?\", \"answer\": \"It is Y.\"}, {\"question\": \"Why {so}?\", \"answer\": \"Bec",
        "```json\n[{\"question\": \"What is X?\", \"answer\": \"It is Y.\"},\n{\"question\": \"Wh",
        "[{'x': 1}, {\"question\": \"What is X?\", \"answer\": \"It is Y.\"},]",
    ] {
        is(reply, &[("What is X?", "It is Y.")]);
    }
    is(
        "{\"question\": \"a?\", \"answer\": \"\\u00fc \\\"}\"}\n{\"question\": \"b?\", \"answer\": 42}",
        &[("a?", "\u{fc} \"}"), ("b?", "42")],
    );
}

/// Goal: what is no pair is said to be none, with the reason. Method: one reply of each kind.
#[test]
fn malformed_replies() {
    for (reply, reason) in [
        ("", "empty"),
        ("   \n", "empty"),
        ("I cannot do that.", "no question"),
        ("Question: What is X?", "no answer"),
        ("Question: What is X?\nAnswer:", "answer is missing"),
        ("Question: What is X?\nAnswer: N/A", "answer is N/A"),
        ("Question: N/A\nAnswer: N/A", "question is N/A"),
        ("Question: \nAnswer: It is Y.", "question is missing"),
        ("Answer: It is Y.", "no question"),
        ("Question: the question\nAnswer: the answer to it", "placeholder"),
        (r#"{"question": "What is X?", "answer": "It is"#, "cut off or broken"),
        (r#"{"question": "What is X?"}"#, "no answer"),
        (r#"{"question": "What is X?", "answer": null}"#, "no answer"),
        (r#"{"question": "What is X?", "answer": ""}"#, "answer is missing"),
        (r#"{"text": "Question: a? Answer: b"}"#, "no question"),
        ("[]", "no question"),
        ("```json\n{\"pairs\": [{\"question\": \"What", "cut off or broken"),
        ("<think>Question: a?\nAnswer: b", "empty"),
    ] {
        let said = malformed(reply);
        assert!(said.contains(reason), "{said:?} for {reply:?}");
    }
}

/// Goal: a reply that ended at the limit of tokens gives whole pairs only. Method: the same replies, cut and not.
#[test]
fn cut_replies() {
    let reply = "Question: a?\nAnswer: b.\nQuestion: c?\nAnswer: d and";
    assert_eq!(parse(reply, false).unwrap().len(), 2);
    assert_eq!(parse(reply, true).unwrap().len(), 1);
    assert!(parse("Question: a?\nAnswer: b and", true).unwrap_err().to_string().contains("cut off"));
    assert!(parse("What is a?\nAnswer: b and", true).is_err());
    assert_eq!(parse(r#"{"question": "a?", "answer": "b"}"#, true).unwrap().len(), 1);
    assert!(parse("", true).unwrap_err().to_string().contains("cut off"));
}

/// Goal: a reply of any size ends soon. Method: megabytes of brackets, braces and labels.
#[test]
fn large_replies_end() {
    let begun = std::time::Instant::now();
    for piece in ["[", "{\"", "{\"a\":[", "Question: ", "Answer:\n", "**", "1. ", "{\"question\": \"a", "A: Q: "] {
        let reply = piece.repeat((MOST_REPLY_BYTES - 1) / piece.len());
        assert!(parse(&reply, false).is_err(), "{piece}");
    }
    assert!(parse(&"x".repeat(MOST_REPLY_BYTES + 1), false).is_err());
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// A piece of a reply: labels, JSON, Markdown, anything.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "Question:",
        "Answer:",
        "Q1.",
        "Q.",
        "A.",
        "A1:",
        "q",
        "A",
        "**",
        "__",
        "#",
        "1.",
        "(2)",
        "- ",
        "\u{2014}",
        "\u{ff1a}",
        "{",
        "}",
        "[",
        "]",
        "\"question\"",
        "\"answer\"",
        "\"",
        "\\",
        ":",
        ",",
        "```json",
        "```",
        "\n",
        " ",
        "?",
        "N/A",
        "<think>",
        "</think>",
        "\u{fc}",
        "\0",
    ];
    prop_oneof![3 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    /// Goal: no reply makes it panic, and what it gives is never empty. Method: random pieces of replies, and any text.
    #[test]
    fn no_reply_panics(pieces in proptest::collection::vec(piece(), 0..40), cut in any::<bool>()) {
        for reply in [pieces.concat(), pieces.join(" "), pieces.join("\n")] {
            for pair in parse(&reply, cut).unwrap_or_default() {
                prop_assert!(!pair.question.trim().is_empty() && !pair.answer.trim().is_empty());
                prop_assert!(!pair.question.contains('\n'));
            }
        }
    }

    /// Goal: pairs come back as they were written. Method: random sentences in four forms.
    #[test]
    fn pairs_come_back(words in proptest::collection::vec(("[b-p]{2,9}( [b-p]{2,9}){0,6}", "[b-p]{3,9}( [b-p]{2,9}){0,9}"), 1..5)) {
        let wanted: Vec<(String, String)> =
            words.iter().map(|(q, a)| (format!("Is {q} so?"), format!("It is {a}."))).collect();
        let each = |form: &dyn Fn(usize, &str, &str) -> String| -> String {
            wanted.iter().enumerate().map(|(i, (q, a))| form(i + 1, q, a)).collect()
        };
        let objects: Vec<_> = wanted.iter().map(|(q, a)| serde_json::json!({"question": q, "answer": a})).collect();
        for reply in [
            each(&|_, q, a| format!("Question: {q}\nAnswer: {a}\n")),
            each(&|i, q, a| format!("{i}. **Question:** {q}\n   **Answer:** {a}\n\n")),
            each(&|i, q, a| format!("Q{i}: {q} A{i}: {a} ")),
            format!("```json\n{}\n```", serde_json::json!({"pairs": objects})),
        ] {
            prop_assert_eq!(&pairs(&reply), &wanted, "in {:?}", reply);
        }
    }

    /// Goal: JSON that was cut anywhere gives whole pairs only. Method: cut at every place.
    #[test]
    fn cut_json_gives_whole_pairs(at in 0usize..200) {
        let whole = r#"{"pairs": [{"question": "What, {a}?", "answer": "one \"b\""}, {"question": "And c?", "answer": "two"}]}"#;
        let reply = &whole[..at.min(whole.len())];
        for pair in parse(reply, true).unwrap_or_default() {
            let is = (pair.question.as_str(), pair.answer.as_str());
            prop_assert!(is == ("What, {a}?", "one \"b\"") || is == ("And c?", "two"), "{:?}", is);
        }
    }
}
