//! gpt
