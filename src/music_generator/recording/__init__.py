"""Turn a recording into notes and pedals: read its sound, transcribe it chunk by chunk, join what the chunks have."""

from music_generator.recording.transcription import can_transcribe, transcribe

__all__ = ["can_transcribe", "transcribe"]
