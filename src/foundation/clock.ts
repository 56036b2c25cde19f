/** The time now. Comes in by the constructor, so a test's clock is `{ now: () => noon }`. */
export abstract class Clock {
  abstract now(): Date;
}

export class SystemClock extends Clock {
  override now(): Date {
    return new Date();
  }
}
