// The same music on other bars: a performance and its file get another tempo map: music/retiming.py.
import { META, TEMPO, TIME_SIGNATURE, makeTrack, meta, metas, metreEvent } from "./midi_file.js";
import { tempoEvents } from "./splice.js";

/** A performance on another tempo map: its notes and pedals as they are, its file on other ticks. */
export function onTempoMap(performance, tempoMap) {
  const { source } = performance;
  if (!source) return performance.with({ tempoMap });
  const before = source.tempoMap, after = tempoMap.refined();
  if (before.equals(tempoMap) || before.equals(after)) return performance.with({ tempoMap: before });
  return performance.with({ tempoMap: after, source: source.withFile(retimedFile(source.file, before, after)) });
}

function retimedFile(file, before, after) {
  const tracks = file.tracks.map((track) => retimedTrack(track, before, after));
  tracks[0] = [...metred(file, tempoEvents(after)), ...tracks[0]].sort((a, b) => a[0] - b[0]);
  const runs = file.tracks.some(({ usesRunningStatus }) => usesRunningStatus);
  return file.withTracks(tracks.map((events) => makeTrack(events, runs)), { division: after.ticksPerQuarter });
}

/** Tempi and time signatures; a metre that the file had keeps its clicks of the metronome. */
function metred(file, events) {
  const own = new Map(metas(file, TIME_SIGNATURE).filter(([, data]) => data.length === 4)
    .map(([, data]) => [String(metreEvent(data[0], 2 ** data[1])), meta(TIME_SIGNATURE, data)]));
  return events.map(([tick, message]) => [tick, own.get(String(message)) ?? message]);
}

/** The events of a track on the ticks of another tempo map, without tempi and time signatures. */
function retimedTrack(track, before, after) {
  const events = [];
  let last = 0;
  for (const event of track.events) {
    last = Math.max(last, after.toTicks(before.toSeconds(event.tick)));
    const isReplaced = event.status === META && (event.first === TEMPO || event.first === TIME_SIGNATURE);
    if (!isReplaced) events.push([last, track.message(event)]);
  }
  return events;
}
