use super::*;

fn support(chunk: &str, answer: &str) -> Support {
    let mut content = Content::default();
    content.read(chunk);
    content.support(answer, &mut Vec::new())
}

const CHUNK: &str = "The pump was tested in three plants. Treated water reaches 10,000 litres per hour at 5.2 bar; the warranty ends after 24 months.";

/// Goal: words count by their stems, stop words do not, foreign ones are missed. Method: answers that are taken from the chunk, half
/// so, and not at all.
#[test]
fn share_of_words() {
    assert_eq!(support(CHUNK, "The treatment of the water is for the pumps.").share, 1.0);
    assert_eq!(support(CHUNK, "The pump is from Berlin.").share, 0.5);
    assert_eq!(support(CHUNK, "Elephants eat grass.").share, 0.0);
    assert_eq!(support(CHUNK, "Yes, it is.").share, 1.0);
    assert_eq!(support("", "Elephants eat grass.").share, 0.0);
    assert_eq!(support("保証期間は二年です", "保証期間").share, 1.0);
    assert_eq!(support("保証期間は二年です", "頭痛の薬").share, 0.0);
    assert_eq!(support("기기의 보증은 이년입니다", "보증이").share, 1.0);
}

/// Goal: a number that the chunk has not is found, however numbers are written. Method: numbers with separators, in words, of
/// lists, and wrong ones.
#[test]
fn numbers() {
    let missing = |answer| support(CHUNK, answer).missing_number;
    for right in ["10000 litres", "10.000 litres", "5,2 bar", "3 plants", "24 months", "024 months", "1. the pump\n2. the plants"]
    {
        assert_eq!(missing(right), None, "{right}");
    }
    for (wrong, number) in
        [("25 months", "25"), ("1000 litres", "1000"), ("5.3 bar", "5.3"), ("4 plants", "4"), ("24 or 36.", "36")]
    {
        assert_eq!(missing(wrong).as_deref(), Some(number));
    }
}
