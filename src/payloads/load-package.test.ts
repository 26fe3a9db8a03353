import { describe, expect, it } from "vitest";
import { loadPackage } from "./load-package.ts";

describe("a package that is loaded when it is used", () => {
  it("is named if it is not installed", async () => {
    const name = "@gembatch/no-such-package";
    const thrown: unknown = await loadPackage(name, "x()", async () => import(/* @vite-ignore */ name)).catch((error: unknown) => error);
    expect(thrown).toMatchObject({
      code: "payload_unavailable",
      message: `x() needs the package ${name}, which is not installed. Run: npm install ${name}`,
    });
  });

  it("that fails by itself fails as it does", async () => {
    const broken = Object.assign(new Error("Cannot find package 'other' imported from y"), { code: "ERR_MODULE_NOT_FOUND" });
    await expect(loadPackage("y-package", "x()", async () => Promise.reject(broken))).rejects.toBe(broken);
  });
});
