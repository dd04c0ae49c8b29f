use super::*;

/// Goal: questions that need their text beside them are found, good questions are not. Method: a list of each.
#[test]
fn found_and_not() {
    let refers = Refers::new(&["as the handbook puts it".to_owned()]);
    let found = [
        "What does the text say about pumps?",
        "According to the passage, how long is the warranty?",
        "What is the main idea of the passage?",
        "Which filters are mentioned in the document?",
        "Based on the report, who is responsible?",
        "What is this section about?",
        "What can be concluded from the given text?",
        "Which of the following is true?",
        "What does the author think about remote work?",
        "What is the author's opinion on it?",
        "How many employees are listed in the table?",
        "What happens in the excerpt?",
        "Which steps are described above?",
        "Laut dem Text, wie lange gilt die Garantie?",
        "Que dit-on de la pompe dans le texte ?",
        "¿Cuál es, según el texto, la garantía?",
        "What, as the handbook puts it, is a leave day?",
    ];
    for question in found {
        assert!(refers.find(question).is_some(), "{question}");
    }
    let good = [
        "How do I change the color of the text?",
        "Who is the author of Faust?",
        "How do I upload the document to the portal?",
        "What is the passage of time called in physics?",
        "Who signs the report at the end of the year?",
        "What is stated in article 5 of the GDPR?",
        "What happens above 80 degrees?",
        "Which forms are needed in the following year?",
        "What is the purpose of the table in the workshop?",
        "Wie lange gilt die Garantie?",
        "",
        "the",
    ];
    for question in good {
        assert_eq!(refers.find(question), None, "{question}");
    }
}
