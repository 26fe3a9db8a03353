/** A promise of the system that did not hold. */
export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, message: string) {
    super(`${invariant}: ${message}.`);
    this.name = "Violation";
    this.invariant = invariant;
  }
}
