/** Loaded before a program (`--import`): its system clock is wrong by `PROGRAM_SKEW_MS`. */
const skewMs = Number(process.env["PROGRAM_SKEW_MS"] ?? 0);
const { now } = Date;
Date.now = () => now() + skewMs;
