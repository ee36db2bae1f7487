"""Networks of Hugging Face's transformers: two layers of 32 channels each, where they have such.

Those that run and those that do not, by what libraries and courses start from: encoders and
decoders of text, of images and of sound.
"""

from dataclasses import dataclass
from typing import Any

TOKENS, WORDS = 10, 100

PADDING = 1
"""The id behind the end of a text, that of networks that find positions by it."""

IMAGE, SPECTRUM, WAVE = (3, 32, 32), (8, 32), (400,)
"""Shapes of what is no text."""

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
TEXT = {"vocab_size": WORDS, "max_position_embeddings": 64}
DECODER = {**SIZES, **TEXT, "use_cache": False}
GROUPED = {**DECODER, "num_key_value_heads": 1, "head_dim": 16}
PIXELS = {"image_size": 32, "patch_size": 8}
GPT = {
    "vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
    "use_cache": False,
}  # fmt: skip
T5 = {
    "vocab_size": WORDS, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2,
}  # fmt: skip
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "vocab_size": WORDS, "max_position_embeddings": 64,
}  # fmt: skip
SOUND = {
    **SIZES, "conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "apply_spec_augment": False,
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A model's class and what its configuration is given; the ``shape`` of what is no text,
    whether text has a mask of its length, and which ``part`` of the model it is."""

    model: str
    config: dict[str, Any]
    shape: tuple[int, ...] | None = None
    mask: bool = False
    part: str = ""


NETWORKS = {
    "albert": Network("AlbertModel", {**SIZES, **TEXT, "embedding_size": 16}, mask=True),
    "ast": Network(
        "ASTModel",
        {
            **SIZES,
            "patch_size": 4,
            "num_mel_bins": 16,
            "max_length": 20,
            "frequency_stride": 4,
            "time_stride": 4,
        },
        (20, 16),
    ),
    "bart-encoder": Network("BartModel", BART, part="encoder"),
    "beit": Network("BeitModel", {**SIZES, **PIXELS, "use_relative_position_bias": True}, IMAGE),
    "bert": Network("BertModel", {**SIZES, **TEXT}, mask=True),
    "biogpt": Network("BioGptModel", DECODER),
    "bloom": Network(
        "BloomModel",
        {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 2, "use_cache": False},
    ),
    "camembert": Network("CamembertModel", {**SIZES, **TEXT}, mask=True),
    "clip-images": Network("CLIPVisionModel", {**SIZES, **PIXELS}, IMAGE),
    "clip-text": Network("CLIPTextModel", {**SIZES, **TEXT}),
    "codegen": Network("CodeGenModel", {**GPT, "n_head": 4, "rotary_dim": 8, "n_ctx": 64}),
    "cohere": Network("CohereModel", GROUPED),
    "convbert": Network("ConvBertModel", {**SIZES, **TEXT, "embedding_size": 16}),
    "convnext": Network(
        "ConvNextModel", {"hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4}, IMAGE
    ),
    "convnextv2": Network(
        "ConvNextV2Model", {"hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4}, IMAGE
    ),
    "ctrl": Network("CTRLModel", {**GPT, "dff": 48}),
    "data2vec-audio": Network(
        "Data2VecAudioModel",
        {k: v for k, v in SOUND.items() if k != "num_conv_pos_embeddings"}
        | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3},
        WAVE,
    ),
    "data2vec-images": Network("Data2VecVisionModel", {**SIZES, **PIXELS}, IMAGE),
    "deberta-v2": Network(
        "DebertaV2Model",
        {**SIZES, **TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "deit": Network("DeiTModel", {**SIZES, **PIXELS}, IMAGE),
    "dinov2": Network("Dinov2Model", {**SIZES, **PIXELS, "mlp_ratio": 2}, IMAGE),
    "dinov3": Network("DINOv3ViTModel", {**SIZES, **PIXELS}, IMAGE),
    "distilbert": Network(
        "DistilBertModel",
        {**TEXT, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
        mask=True,
    ),
    "electra": Network("ElectraModel", {**SIZES, **TEXT, "embedding_size": 16}, mask=True),
    "ernie": Network("ErnieModel", {**SIZES, **TEXT}, mask=True),
    "falcon": Network(
        "FalconModel",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "use_cache": False,
        },
    ),
    "fnet": Network("FNetModel", {**SIZES, **TEXT, "use_tpu_fourier_optimizations": False}),
    "gemma": Network("GemmaModel", GROUPED),
    "gemma2": Network("Gemma2Model", {**GROUPED, "sliding_window": 4}),
    "gemma3": Network("Gemma3TextModel", {**GROUPED, "sliding_window": 4}),
    "glm4": Network("Glm4Model", {**GROUPED, "pad_token_id": 0}),
    "gpt-neo": Network(
        "GPTNeoModel",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "window_size": 4,
            "use_cache": False,
        },
    ),
    "gpt-neox": Network("GPTNeoXModel", DECODER),
    "gpt2": Network("GPT2Model", GPT),
    "gptj": Network("GPTJModel", {**GPT, "rotary_dim": 8}),
    "granite": Network("GraniteModel", GROUPED),
    "hiera": Network(
        "HieraModel",
        {
            "embed_dim": 16,
            "image_size": [64, 64],
            "depths": [1, 1],
            "num_heads": [1, 2],
            "query_stride": [2, 2],
            "num_query_pool": 1,
            "masked_unit_size": [4, 4],
        },
        (3, 64, 64),
    ),
    "hubert": Network("HubertModel", SOUND, WAVE),
    "ijepa": Network("IJepaModel", {**SIZES, **PIXELS}, IMAGE),
    "layoutlm": Network("LayoutLMModel", {**SIZES, **TEXT}, mask=True),
    "levit": Network(
        "LevitModel",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [1, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
        (3, 64, 64),
    ),
    "llama": Network("LlamaModel", GROUPED),
    "m2m-encoder": Network("M2M100Model", BART, mask=True, part="encoder"),
    "mbart-encoder": Network("MBartModel", BART, part="encoder"),
    "mistral": Network("MistralModel", GROUPED),
    "mobilevit": Network(
        "MobileViTModel",
        {
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "image_size": 64,
            "num_attention_heads": 2,
        },
        (3, 64, 64),
    ),
    "mobilevitv2": Network("MobileViTV2Model", {"width_multiplier": 0.25}, (3, 64, 64)),
    "modernbert": Network(
        "ModernBertModel",
        {**SIZES, **TEXT, "local_attention": 4, "global_attn_every_n_layers": 2, "pad_token_id": 0},
    ),
    "mpnet": Network("MPNetModel", {**SIZES, **TEXT}, mask=True),
    "mpt": Network(
        "MptModel",
        {
            "vocab_size": WORDS,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 2,
            "expansion_ratio": 2,
            "use_cache": False,
        },
    ),
    "olmo": Network("OlmoModel", GROUPED),
    "olmo2": Network("Olmo2Model", GROUPED),
    "openai-gpt": Network("OpenAIGPTModel", GPT),
    "opt": Network(
        "OPTModel", {**DECODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}
    ),
    "pegasus-encoder": Network("PegasusModel", BART, part="encoder"),
    "phi": Network("PhiModel", DECODER),
    "phi3": Network("Phi3Model", {**GROUPED, "pad_token_id": 0}),
    "poolformer": Network(
        "PoolFormerModel",
        {
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_encoder_blocks": 2,
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "padding": [2, 1],
            "mlp_ratio": 2.0,
        },
        IMAGE,
    ),
    "pvt-v2": Network(
        "PvtV2Model",
        {
            "image_size": 32,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "num_encoder_blocks": 2,
            "sr_ratios": [4, 2],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "mlp_ratios": [2, 2],
        },
        IMAGE,
    ),
    "qwen2": Network("Qwen2Model", GROUPED),
    "qwen3": Network("Qwen3Model", GROUPED),
    "resnet": Network(
        "ResNetModel", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, IMAGE
    ),
    "roberta": Network("RobertaModel", {**SIZES, **TEXT}, mask=True),
    "roformer": Network("RoFormerModel", {**SIZES, **TEXT}),
    "segformer": Network(
        "SegformerModel",
        {
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "num_encoder_blocks": 2,
            "sr_ratios": [4, 2],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "mlp_ratios": [2, 2],
        },
        IMAGE,
    ),
    "siglip-images": Network("SiglipVisionModel", {**SIZES, **PIXELS}, IMAGE),
    "smollm3": Network("SmolLM3Model", {**GROUPED, "pad_token_id": 0}),
    "squeezebert": Network(
        "SqueezeBertModel",
        {
            **SIZES,
            **TEXT,
            "embedding_size": 32,
            "q_groups": 2,
            "k_groups": 2,
            "v_groups": 2,
            "post_attention_groups": 1,
            "intermediate_groups": 2,
            "output_groups": 2,
        },
    ),
    "stablelm": Network("StableLmModel", GROUPED),
    "starcoder2": Network("Starcoder2Model", GROUPED),
    "swin": Network(
        "SwinModel",
        {
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "image_size": 32,
            "patch_size": 2,
        },
        IMAGE,
    ),
    "swinv2": Network(
        "Swinv2Model",
        {
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "image_size": 32,
            "patch_size": 2,
        },
        IMAGE,
    ),
    "t5-encoder": Network("T5EncoderModel", T5, mask=True),
    "umt5-encoder": Network("UMT5EncoderModel", T5, mask=True),
    "vit": Network("ViTModel", {**SIZES, **PIXELS}, IMAGE),
    "vit-msn": Network("ViTMSNModel", {**SIZES, **PIXELS}, IMAGE),
    "wav2vec2": Network("Wav2Vec2Model", SOUND, WAVE),
    "wav2vec2-large": Network(
        "Wav2Vec2Model", {**SOUND, "feat_extract_norm": "layer", "do_stable_layer_norm": True}, WAVE
    ),
    "wavlm": Network("WavLMModel", {**SOUND, "feat_extract_norm": "layer"}, WAVE),
    "whisper-encoder": Network(
        "WhisperModel",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "num_mel_bins": 8,
            "max_source_positions": 16,
            "vocab_size": WORDS,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        SPECTRUM,
        part="encoder",
    ),
    "xglm": Network(
        "XGLMModel",
        {
            "vocab_size": WORDS,
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 2,
            "ffn_dim": 48,
            "max_position_embeddings": 64,
            "use_cache": False,
        },
    ),
    "xlm-roberta": Network("XLMRobertaModel", {**SIZES, **TEXT}, mask=True),
    "yolos": Network(
        "YolosModel",
        {**SIZES, "image_size": [32, 32], "patch_size": 8, "num_detection_tokens": 4},
        IMAGE,
    ),
}
