// The shapes that the modules of the studio's page share, for `tsc` and for editors. The page itself never loads them.

type Studio = import("../../src/music_generator/studio/static/studio.js").Studio;
type Roll = import("../../src/music_generator/studio/static/roll.js").Roll;
type Player = import("../../src/music_generator/studio/static/audio/player.js").Player;
type Exporter = import("../../src/music_generator/studio/static/export.js").Exporter;

// --- the piece ---------------------------------------------------------------------------------------------------

/** A note or a pedal press. It is never changed in place. */
interface MusicEvent {
  readonly id: number;
  /** Seconds. */
  readonly onset: number;
  /** Seconds. */
  readonly duration: number;
  /** 21 to 108: a piano key; 0 to 2: a pedal. */
  readonly key: number;
  /** 1 to 127; of a pedal, its depth. */
  readonly velocity: number;
  /** Whether the model wrote it. */
  readonly generated: boolean;
  /** Whether it is of another track of the file. */
  readonly other?: boolean;
}

/** The fields that an edit gives an event. */
type Fields = Partial<Omit<MusicEvent, "id">>;

/** An edit of one event: its new fields, a list of them to make several of it, or null to delete it. */
type Change = (event: MusicEvent) => Fields | Fields[] | null;

/** From one second to another. */
type Span = [from: number, to: number];

/** Beats in a bar and the note value of a beat. */
type Metre = [top: number, bottom: number];

/** As the server has it. */
interface TempoMap {
  ticks_per_quarter: number;
  tempos: [tick: number, microseconds: number][];
  time_signatures: [tick: number, top: number, bottom: number][];
}

/** The file that a piece is from. Only the server reads it. */
interface Source { file: string }

/** What belongs to a piece beside its events. */
interface Facts { name: string; tempo_map: TempoMap | null; source: Source | null }

/** An event as the server has it. */
type Row = [onset: number, duration: number, key: number, velocity: number];

interface Rows { notes: Row[]; pedals: Row[] }
interface PieceJson extends Rows { tempo_map: TempoMap | null; source: Source | null }

/** The second piece, to which Bridge leads. */
interface Second { name: string; piece: PieceJson }

/** A part of the file that a piece is from. */
interface Part {
  track: number; name: string; channel: number; program: number; drums: boolean; chosen: boolean; count: number; notes: Row[];
}

/** What a MIDI file holds: the piece, remarks about it, and its parts. */
interface Reading { piece: PieceJson; remarks: string[]; parts: Part[] }

/** A note of another track. */
interface OtherNote extends MusicEvent { program: number; isDrum: boolean }

// --- writing -----------------------------------------------------------------------------------------------------

type Task = "infill" | "continue" | "lead-in" | "bridge" | "compose";

/** The settings of the panels as fields of a request; the server has defaults for those that are null. */
interface Settings {
  variations: number | null; temperature: number | null; top_p: number | null; seed: number | null; composer: string | null;
  seconds?: number | null; density?: number | null; loudness?: number | null; from?: number;
}

/** One of the pieces of music that the user chooses from. */
interface Variation {
  seed: number;
  /** The command line that writes it, or why there is none. */
  command: string | null; noCommand: string | null;
  events: MusicEvent[];
  /** Whether it is complete. */
  done: boolean;
  /** The whole piece while the variation is being written, and when it is complete: made when they are first shown. */
  around?: MusicEvent[]; whole?: MusicEvent[];
}

/** What is being written, or what the user chooses from. `kept`: notes of the span that stay. */
interface Choice {
  task: Task; settings: Settings; span: Span | null; second: Second | null; kept: MusicEvent[];
  base: MusicEvent[]; facts: Facts; past: MusicEvent[]; future: MusicEvent[];
  start: number; end: number; shift: number;
  variations: Variation[]; current: number;
  /** Whether the piece as it was is shown. */
  original: boolean;
  /** If a step of the history was opened again: the number of steps that were done, and the variation that was kept. */
  reopened: { at: number; current: number } | null;
  writing: boolean; job: string | null; abort: AbortController | null;
}

/** A choice that is stored, without the piece around it. */
type StoredChoice = Omit<Choice, "base" | "past" | "future">;

/** The messages of a writing job. */
type Message =
  | { type: "job"; job: string }
  | BeginMessage
  | { type: "events"; variation: number } & Rows
  | { type: "variation"; variation: number; seed: number } & Rows
  | { type: "done" | "cancelled" };

interface BeginMessage {
  type: "begin"; start: number; end: number; future_shift: number; seeds: number[];
  commands: (string | null)[]; no_command: string | null; tempo_map: TempoMap | null; source: Source | null;
}

/** The messages of transcribing a recording. */
type Transcribed =
  | { type: "job"; job: string }
  | { type: "transcribed"; seconds: number; of: number }
  | { type: "piece"; piece: PieceJson; remarks: string[]; parts: Part[] }
  | { type: "done" | "cancelled" };

/** How far a recording is transcribed, in seconds of it, and the same in words. */
interface TranscribingProgress { text: string; done: number; of: number }

/** Why the server refused a request. */
interface Refusal { code: string; message: string }

/** What the server says about itself. */
interface Info {
  composers: string[]; formats: string[]; uses_future: boolean;
  defaults: { variations: number; temperature: number; top_p: number; piece_seconds: number; join_seconds: number };
  limits: { variations: number; recording_bytes: number };
  no_recordings: string | null;
  steering: Record<string, { from: number; to: number } | null>;
}

// --- the history -------------------------------------------------------------------------------------------------

/** What is kept of a step that the model wrote. */
interface Detail {
  task: Task; command: string | null; noCommand: string | null; seed: number; span: Span; choice: StoredChoice | null;
}

interface Step {
  label: string; removed: MusicEvent[]; added: MusicEvent[]; facts: [before: Facts, after: Facts]; detail: Detail | null;
}

interface StoredHistory { events: MusicEvent[]; steps: Step[]; at: number; facts: Facts }

/** The state of the studio as it is stored in the browser and in projects. */
interface StoredWork {
  name: string; history: StoredHistory; span: Span | null; playhead: number; second: Second | null; choice: StoredChoice | null;
}

/** A stored work of a window. */
interface SavedWork extends StoredWork { id: string; saved: number }

/** The events of the piece while a gesture changes it. */
interface Preview { events: MusicEvent[]; selected: MusicEvent[] }

/** What has changed in the studio. */
type StudioChange = "opened" | "restored" | "started" | "requested" | "begun" | "variation" | "switched" | "written" | "kept"
  | "discarded" | "recorded" | "history" | "edited" | "selected" | "focused" | "preview" | "span" | "second" | "moved";

// --- time --------------------------------------------------------------------------------------------------------

/** A step of the grid: seconds, a share of a whole note, or a bar or beat. */
type GridStep = number | "bar" | "beat";

/** A line of the grid. */
interface GridLine { seconds: number; label: string; strong: boolean }

// --- the roll ----------------------------------------------------------------------------------------------------

/** A place in the music. `row`: the key with a fraction; `key`: of a note, or the number of a pedal. */
interface Place { seconds: number; row: number; key: number; velocity: number }

/** A place of the pointer: in pixels of the roll and in the music. `add`: Shift or Ctrl is held. */
interface Point extends Place { x: number; y: number; add: boolean; shift: boolean; alt: boolean; isTouch: boolean }

type Tool = "select" | "draw" | "hand";
type Region = "ruler" | "keyboard" | "names" | "notes" | "pedals" | "velocity";
type NotePart = "start" | "middle" | "end";
type Edge = "start" | "end";

/** What a press of the pointer begins. */
interface Gesture {
  /** Whether the roll scrolls while the pointer rests near its edge. */
  scrolls?: boolean;
  cursor?: string;
  move(point: Point): void;
  end(point: Point): void;
  /** A press that did not move. */
  click?(point: Point): void;
  /** The gesture is interrupted: all is as it was. */
  cancel(): void;
}

/** What the gestures know of the page. */
interface GesturePage {
  studio: Studio; roll: Roll; seek(seconds: number): void; tool(): Tool;
  sound: { strike(key: number, velocity: number): void; release(key: number): void; preview(key: number, velocity: number): void };
}

type View = Roll["view"];
type Time = import("../../src/music_generator/studio/static/time.js").Time;

/** What painting events needs of a view. */
type PaintView = Pick<View, "left" | "top" | "bottom" | "width" | "height" | "t0" | "t1" | "pps" | "row" | "x" | "y" | "lane" | "laneHeight">;

/** The events of one colour, sorted by onset. `reach`: the latest end of an event and of all before it. */
interface DrawList {
  colour: string; isPedal: boolean;
  onset: Float64Array; end: Float64Array; reach: Float64Array; key: Uint8Array; velocity: Uint8Array;
}
type DrawLists = DrawList[] & { count: number };

/** Paints the events of a list from number `first` to before `last`. */
type PaintList = (ctx: Context2D, view: PaintView, list: DrawList, first: number, last: number) => void;

/** Colours of the style sheet by name. */
type Colours = Record<string, string>;
type Context2D = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** A rectangle of the music that is being selected. */
interface Marquee { from: number; row: number; to: number; toRow: number }

/** What a drag does so far, beside the pointer. */
interface Tip { x: number; y: number; text: string }

/** What moves over the notes. */
interface Overlay {
  span: Span | null; marquee: Marquee | null; playhead: number | null; loop: boolean; sounding: number[]; band: Span | null;
  tip: Tip | null; hovered: MusicEvent | null;
}

// --- sound -------------------------------------------------------------------------------------------------------

type Samples = import("../../src/music_generator/studio/static/audio/samples.js").Samples;
type Score = import("../../src/music_generator/studio/static/audio/voices.js").Score;
type Index = import("../../src/music_generator/studio/static/audio/voices.js").Index;

/** A sound file of the piano, as the index has it. */
interface Sample { file: string; seconds: number; gain: number }

/** A tone of one key and layer of velocity. `overlap`: with the next layer. */
interface Tone extends Sample { key: number; layer: number; overlap?: number }

/** The noise of a damper (of a key) or of a pedal. */
interface Noise extends Sample { kind: string; key?: number }

/** The file `samples/index.json`. */
interface SampleIndex { layers: number[]; stretch: number[]; tones: Tone[]; noises: Noise[] }

/** What a tone has fallen by, in nepers, at ascending seconds. */
interface Fall { times: number[]; fallen: number[] }

/** A tone of a piece. `up`: the second at which its damper begins to follow the pedal; `isDamped`: it is heard then. */
interface ScoreVoice extends Fall { note: MusicEvent; level: number; isDark: boolean; up: number; isDamped: boolean }

/** A tone for the sampler. */
interface ToneToPlay extends Fall { key: number; velocity: number; level: number; isDark: boolean }

/** All that sounds from one start of playback to its stop. */
type Take = ReturnType<Sampler["makeTake"]>;
type Sampler = import("../../src/music_generator/studio/static/audio/sampler.js").Sampler;
type Port = import("../../src/music_generator/studio/static/midi/port.js").Port;

/** Seconds of the piece that sound from a time of the audio clock on. */
interface Segment { from: number; to: number; clock: number }

/** A click of the metronome, in seconds of the piece. */
interface Click { onset: number; accented: boolean }

/** What a player does: strikes a key, lets it up, or moves a pedal to a value of 0 to 1. */
type Played = PianoMessage & { time: number };
type PianoMessage = { kind: "strike"; key: number; velocity: number } | { kind: "release"; key: number } | { kind: "pedal"; pedal: number; value: number };

// --- MIDI devices and playing in ---------------------------------------------------------------------------------

type Beats = import("../../src/music_generator/studio/static/beats.js").Beats;
type Clocks = import("../../src/music_generator/studio/static/midi/clocks.js").Clocks;
type Metronome = import("../../src/music_generator/studio/static/midi/metronome.js").Metronome;
type MidiTake = import("../../src/music_generator/studio/static/midi/take.js").Take;
type Session = import("../../src/music_generator/studio/static/midi/session.js").Session;

/** What is held down on a MIDI input. */
interface Heard { input: MIDIInput; down: Set<number>; pedals: Set<number> }

/** What playing in needs of the page. */
interface PlayingPage {
  studio: Studio; player: Player; roll: Roll; stop(): void; settings(task: Task): Settings; announce(message: string): void;
}

/** What the dialog of MIDI devices needs of the page. */
interface MidiPage {
  player: Player; clocks: Clocks; stop(): void; announce(message: string): void; played(message: PianoMessage, time: number, input: MIDIInput): void;
}

/** What a recording and traded phrases need of the page. `pedals`: where they are, 0 to 1. */
interface SessionPage extends Omit<PlayingPage, "announce"> {
  clocks: Clocks; metronome: Metronome; pedals: number[]; readonly restSeconds: number; sessionChanged(): void;
}

// --- the audio worklet, of which TypeScript's own libraries know nothing -------------------------------------------

declare const sampleRate: number;
declare class AudioWorkletProcessor { readonly port: MessagePort }
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;
interface Navigator { deviceMemory?: number }
interface Window { studioPage: { roll: Roll; studio: Studio; player: Player; playing: object } }

// --- the page ----------------------------------------------------------------------------------------------------

/** The elements of the page by their ids, but for fields, buttons and texts. */
interface PageElements {
  units: HTMLSelectElement; grid: HTMLSelectElement; voice: HTMLSelectElement; composer: HTMLSelectElement; "metre-bottom": HTMLSelectElement;
  base: HTMLCanvasElement; overlay: HTMLCanvasElement;
  "help-box": HTMLDialogElement; "tempo-box": HTMLDialogElement; "export-box": HTMLDialogElement; "midi-box": HTMLDialogElement;
  "midi-input": HTMLSelectElement; "midi-output": HTMLSelectElement;
}

interface PageElement {
  <Id extends keyof PageElements>(id: Id): PageElements[Id];
  (id: string): HTMLInputElement;
}

/** Who is told of the studio's changes, errors (in one line), news, and events as they are written. */
interface StudioListener {
  changed(what: StudioChange): void; failed(message: string): void; announce(message: string): void; streamed(events: MusicEvent[]): void;
  leave(id?: string): Promise<void>; transcribing(progress: TranscribingProgress | null): void;
}
