/** The SDK (3.1) takes keys from these, and its constructor writes to the console when they are set beside what it is handed. */
const keyVariables = ["GEMINI_API_KEY", "GOOGLE_API_KEY"] as const;

/** Runs a constructor of the SDK with the variables of API keys hidden from it. It runs synchronously, so that nobody else sees them hidden. */
export function withoutEnv<T>(construct: () => T): T {
  const { env } = process;
  const hidden = keyVariables.map((name) => [name, env[name]] as const).filter(([, value]) => value);
  for (const [name] of hidden) delete env[name];
  try {
    return construct();
  } finally {
    for (const [name, value] of hidden) env[name] = value;
  }
}
