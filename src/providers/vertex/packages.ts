import { GembatchError } from "../../core/errors.ts";

/**
 * Loads an optional package when it is first needed. Throws `invalid_option` that says what to install if it is not there; whatever else goes wrong in it is thrown as it is.
 */
export async function loadPackage<T>(name: string, purpose: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown };
    const isMissing = (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") && String(message).includes(name);
    if (!isMissing) throw cause;
    throw new GembatchError("invalid_option", `vertex() needs the package ${name} for ${purpose}, and it is not installed.`, {
      hint: `Run npm install ${name}.`,
      cause,
    });
  }
}
