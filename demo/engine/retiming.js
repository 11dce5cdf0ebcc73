// The same music on other bars: a performance and its file get another tempo map: music/retiming.py.
import { Performance } from "./performance.js";
import { rint } from "./tempo_map.js";

const ON_A_TICK = 1e-4; // ticks by which an event of a file may be away from its tick after its time was in seconds

/** A performance on another tempo map; everything sounds when it did, to half a tick. */
export function onTempoMap(performance, tempoMap) {
  const { source } = performance;
  if (!source) return performance.with({ tempoMap });
  const before = source.tempoMap, after = tempoMap.refined();
  if (before.equals(tempoMap) || before.equals(after)) return performance.with({ tempoMap: before });
  const move = (tick) => after.toTicks(before.toSeconds(tick));
  const moved = source.moved(after, move, { division: after.ticksPerQuarter, namesTempo: true });
  const [notes, pedals] = [performance.notes, performance.pedals].map((events) => retimed(events, before, after));
  return new Performance(notes, pedals, after, moved);
}

/** Notes or presses: those on ticks of the file go where its events go, the others stay. */
function retimed(events, before, after) {
  const move = (second) => {
    const tick = before.toFractionalTicks(second), nearest = rint(tick);
    return Math.abs(tick - nearest) < ON_A_TICK ? after.toSeconds(after.toTicks(before.toSeconds(nearest))) : second;
  };
  return events.map(([onset, duration, ...values]) => {
    const [start, end] = [move(onset), move(onset + duration)];
    return [start, Math.max(end - start, 1e-9), ...values];
  });
}
