/* Writing: step after step, each slot by the rules, until it is done. */
enum { WRITING, DONE, INVALID };

/* Take a drawn token into the state of the span: as generation/rules.py: accept. -> whether there is a token */
static int accept(const Model *model, const Slots *slots, int64_t slot, int32_t *row)
{
    SpanState *span = &slots->span[slot];
    const Drawn *drawn = &slots->drawn[slot];
    const float *uniforms = uniforms_of(slots, slot);
    int32_t key = drawn->classes[KEY], now = span->now + drawn->shift_ticks;
    span->place++;
    if (drawn->classes[SHIFT] >= bins_of(model, SHIFT)) {
        span->done = DONE;
        return 0;
    }
    if (now < span->now || (now == span->now && key <= span->last_key) || drawn->duration_ticks < 0) {
        span->done = INVALID; /* with such, writing might never end */
        return 0;
    }
    if (now >= span->end) {
        span->done = DONE;
        return 0;
    }
    span->now = now, span->last_key = key;
    if (key < model->config.num_keys - model->config.num_pedals) {
        span->last_note = now;
        span->repeats = key == span->repeated_key ? span->repeats + 1 : 1, span->repeated_key = key;
        if (span->notes_left > 0 && --span->notes_left == 0)
            span->done = DONE;
    }
    count_key(slots, slot, key);
    row[0] = drawn->shift_ticks, row[1] = key;
    row[2] = max_int(1, value_in_bin(model, VELOCITY, drawn->classes[VELOCITY], uniforms[2]));
    row[3] = drawn->duration_ticks;
    return 1;
}

EXPORT int32_t VARIANT(write)(const Model *model, const Slots *slots, int32_t first, int32_t count, int32_t most, int32_t *rows,
                              uint8_t *memory)
{
    Arena arena = {memory, 0};
    StepScratch scratch;
    lay_out_step(model, count, entries_of(&slots->memory), &scratch, &arena);
    int32_t tokens = 0;
    for (int going = 1; tokens < most && going; tokens++) {
        int writing = 0, out_of_noise = 0;
        draw_tokens(model, slots, first, count, &scratch);
        for (int32_t row = 0; row < count; row++, rows += 4) {
            SpanState *span = &slots->span[first + row];
            scratch.commits[row] = !span->done && accept(model, slots, first + row, rows);
            if (!scratch.commits[row]) /* who is done is stepped with the others, for nothing */
                rows[0] = 0, rows[1] = -1, rows[2] = 0, rows[3] = 0;
            writing |= !span->done, out_of_noise |= !span->done && span->place == slots->block;
        }
        commit_tokens(model, slots, first, count, &scratch);
        going = writing && !out_of_noise;
    }
    return tokens;
}
