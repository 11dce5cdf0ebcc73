// The same music on other bars: a performance and its file get another tempo map: music/retiming.py.

/** A performance on another tempo map: its notes and pedals as they are, its file on other ticks. */
export function onTempoMap(performance, tempoMap) {
  const { source } = performance;
  if (!source) return performance.with({ tempoMap });
  const before = source.tempoMap, after = tempoMap.refined();
  if (before.equals(tempoMap) || before.equals(after)) return performance.with({ tempoMap: before });
  const move = (tick) => after.toTicks(before.toSeconds(tick));
  const moved = source.moved(after, move, { division: after.ticksPerQuarter, namesTempo: true });
  return performance.with({ tempoMap: after, source: moved });
}
