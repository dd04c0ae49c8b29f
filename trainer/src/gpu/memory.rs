//! What a step takes of a device's memory, and with that how a batch is cut.
//!
//! A batch whose activations fit goes through the encoder in one piece. One that is larger is cut into pieces; the activations of as many as fit are kept, and the rest are embedded
//! again on the way back (GradCache with partial recomputation). With a share f of the tokens kept, a step costs 1 + (1 - f) / 3 of one that keeps all.

use super::Precision;
use crate::encoder::Encoder;

/// The share of what is free that is planned with; the rest is for what libraries take.
const FREE_SHARE: f64 = 0.9;
/// Bytes a parameter: it, its moments, its gradient; its copy comes on top.
const STATE_BYTES: usize = 16;
/// What the loss may take.
pub(super) const LOSS_BYTES: usize = 1 << 30;
/// Tokens whose activations are kept at once, at the least: one long text and some.
pub(super) const LEAST_TOKENS: usize = 1024;
/// Tokens that go through the device together, at the most: as many as the sizes of products allow with ease.
pub(super) const MOST_TOGETHER: usize = 1 << 19;
/// A piece is this part of what fits, so that most of it is for what is kept ...
const PIECES: usize = 8;
/// ... unless it is so small that products do not fill the device.
const LEAST_PIECE: usize = 1 << 14;

/// How many tokens fit into so many free bytes in one piece, beside a state that is yet to come, and the loss.
pub fn tokens_in(free_bytes: usize, encoder: &Encoder, precision: Precision) -> usize {
    let free = (free_bytes as f64 * FREE_SHARE) as usize;
    let fixed = state_bytes(encoder, precision) + LOSS_BYTES;
    (free.saturating_sub(fixed) / token_bytes(encoder, precision)).max(LEAST_TOKENS)
}

/// Bytes that a step takes which keeps so many tokens' activations, the state and the loss included.
pub fn step_bytes(tokens: usize, encoder: &Encoder, precision: Precision) -> usize {
    state_bytes(encoder, precision) + LOSS_BYTES + tokens * token_bytes(encoder, precision)
}

/// The longest piece of a batch of so many tokens, where the activations of `fitting` may be kept.
pub(super) fn piece(tokens: usize, fitting: usize) -> usize {
    let piece = if tokens <= fitting { fitting } else { (fitting / PIECES).max(LEAST_PIECE).min(fitting.div_ceil(2)) };
    piece.min(MOST_TOGETHER)
}

/// Of how many tokens activations are kept beside a piece, where so many fit in one piece: what is kept needs no buffers.
pub(super) fn kept_beside(piece: usize, fitting: usize, encoder: &Encoder, precision: Precision) -> usize {
    let bytes = fitting.saturating_sub(piece) * token_bytes(encoder, precision);
    bytes / (token_bytes(encoder, precision) - buffer_bytes(encoder, precision))
}

/// The share of a batch of so many tokens whose activations are kept, where so many fit in one piece.
pub fn kept_share(tokens: usize, fitting: usize, encoder: &Encoder, precision: Precision) -> f64 {
    if tokens <= fitting {
        return 1.0;
    }
    let kept = kept_beside(piece(tokens, fitting), fitting, encoder, precision);
    (kept as f64 / tokens as f64).min(1.0)
}

/// What comes of a rank's share of a batch, about so many tokens, for people.
pub fn in_words(tokens: usize, fitting: usize, encoder: &Encoder, precision: Precision) -> String {
    let again = 100.0 * (1.0 - kept_share(tokens, fitting, encoder, precision));
    match again > 0.0 {
        false => format!("activations of a batch kept whole: about {tokens} tokens of the {fitting} that fit"),
        true => {
            format!("{fitting} tokens fit at once: of a batch's {tokens} or so {again:.0}% are embedded again on the way back")
        }
    }
}

fn state_bytes(encoder: &Encoder, precision: Precision) -> usize {
    encoder.layout().total * (STATE_BYTES + precision.value_bytes())
}

/// Bytes that a token takes in a step: activations, a bit for each probability of the longest texts, buffers.
fn token_bytes(encoder: &Encoder, precision: Precision) -> usize {
    let config = encoder.config();
    let masks = config.num_hidden_layers * config.num_attention_heads * config.max_position_embeddings / 8;
    encoder.activation_bytes(1) / size_of::<f32>() * precision.value_bytes() + masks + buffer_bytes(encoder, precision)
}

/// Bytes of them that are for the time that it is on its way.
fn buffer_bytes(encoder: &Encoder, precision: Precision) -> usize {
    encoder.buffer_width() * precision.value_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::BertConfig;
    use crate::model::layout::ParamLayout;
    use crate::model::pooling::Pooling;

    /// Goal: a batch that fits is one piece, one that does not is cut so that most of the memory keeps activations, and pieces stay large enough for products where memory allows it.
    /// Method: sizes of a large and of a small device, and tiny ones.
    #[test]
    fn pieces() {
        assert_eq!((piece(400_000, 400_000), piece(400_000, 900_000)), (400_000, 1 << 19));
        assert_eq!(piece(780_000, 400_000), 50_000);
        assert_eq!(piece(780_000, 60_000), 16_384);
        assert_eq!((piece(5000, 1024), piece(5000, 1), piece(5, 3)), (512, 1, 2));
        let config = BertConfig::bert(12, 768);
        let layout = ParamLayout::bert(&config);
        let encoder = Encoder::new(config, Pooling::mean(), layout).unwrap();
        let share = |tokens, fitting| kept_share(tokens, fitting, &encoder, Precision::Bf16);
        // buffers are a tenth of a token's memory
        assert_eq!(share(400_000, 400_000), 1.0);
        assert!((0.54..0.56).contains(&share(700_000, 400_000)), "{}", share(700_000, 400_000));
        assert!(share(1_000_000_000, 1024) < 1e-6);
        let said = |tokens, fitting| in_words(tokens, fitting, &encoder, Precision::Bf16);
        assert_eq!(said(12_000, 400_000), "activations of a batch kept whole: about 12000 tokens of the 400000 that fit");
        assert!(said(700_000, 400_000).contains("of a batch's 700000 or so 45% are embedded again"));
    }
}
