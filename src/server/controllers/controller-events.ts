/** What happened to an object, for whoever runs `kubectl describe` on it. Never holds a key or a token. */
export interface ObjectEvent {
  /** The object that it happened to. */
  readonly regarding: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly namespace?: string;
    readonly name: string;
    readonly uid: string;
  };
  readonly type: 'Normal' | 'Warning';
  /** Why, in one word for programs: `Rendered`. */
  readonly reason: string;
  /** What was done or tried, in one word: `Render`. */
  readonly action: string;
  /** For people; cut at 1024 bytes. */
  readonly note: string;
}

/** Takes events from controllers. Never waits and never fails: an event is told, or it is lost. */
export interface EventRecorder {
  record(event: ObjectEvent): void;
}
