import { GembatchError } from "../core/errors.ts";

/** A peer package that is only loaded when it is used. Throws `payload_unavailable` with what to install. */
export async function loadPackage<T>(name: string, user: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const isMissing = (cause as { code?: unknown }).code === "ERR_MODULE_NOT_FOUND" && (cause as Error).message.includes(name);
    if (!isMissing) throw cause;
    throw new GembatchError("payload_unavailable", `${user} needs the package ${name}, which is not installed.`, {
      hint: `Run: npm install ${name}`,
      cause,
    });
  }
}
