/** The Terraform module holds the same facts as `gembatch init`. Where there is a terraform, its locals are evaluated, without a provider or a network. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { terraformFacts } from "../../deploy/generate.ts";
import { apisFor, defaults, projectRolesFor } from "../../src/cli/init/facts.ts";
import { defaultEnv, wantedEnv } from "../../src/cli/init/file-steps.ts";
import { declaredIndexes } from "../../src/cli/init/declared.ts";
import { resolveSettings } from "../../src/cli/init/settings.ts";
import { declared } from "./fixtures.ts";

const module = join(import.meta.dirname, "..", "..", "deploy", "terraform");
const sources = readdirSync(module).filter((name) => name.endsWith(".tf"));
const read = (name: string) => readFileSync(join(module, name), "utf8");

const env = { ...process.env, CHECKPOINT_DISABLE: "1", TF_CLI_CONFIG_FILE: "" };
/** OpenTofu's `tofu` does as well. */
const program = process.env["TERRAFORM"] ?? "terraform";
const terraform = (args: string[], cwd: string, input = "") =>
  spawnSync(program, args, { cwd, input, encoding: "utf8", env, timeout: 30_000 });
const hasTerraform = terraform(["version"], tmpdir()).status === 0;

describe("deploy/terraform", () => {
  it("reads facts that are those of gembatch init (node deploy/generate.ts)", () => {
    expect(JSON.parse(read("gembatch.json"))).toEqual(JSON.parse(JSON.stringify(terraformFacts())));
  });

  it("names no API, role or number of days by itself", () => {
    const own = sources.flatMap((name) =>
      [...read(name).matchAll(/[\w.-]+\.googleapis\.com|roles\/[\w.]+|\bage\s*=\s*\d+/g)].map(([found]) => `${name}: ${found}`),
    );
    expect(own).toEqual([]);
  });

  it("makes each kind of thing that gembatch init makes", () => {
    const kinds = [...read("main.tf").matchAll(/^resource "(\w+)"/gm)].map(([, kind]) => kind!);
    expect(kinds.toSorted()).toEqual([
      "google_bigquery_dataset",
      "google_bigquery_dataset_iam_member",
      "google_firestore_field",
      "google_firestore_index",
      "google_project_iam_member",
      "google_project_service",
      "google_project_service_identity",
      "google_service_account_iam_member",
      "google_storage_bucket",
      "google_storage_bucket_iam_member",
    ]);
  });

  it("explains every variable", () => {
    const names = [...read("variables.tf").matchAll(/^variable "(\w+)"/gm)].map(([, name]) => name!);
    expect(names.filter((name) => !read("README.md").includes(`| \`${name}\` |`))).toEqual([]);
  });
});

// Loud: the name of the suite says what was not looked at.
describe.skipIf(!hasTerraform)(
  `deploy/terraform, evaluated${hasTerraform ? "" : " (skipped: there is no terraform on this machine)"}`,
  () => {
    let folder = "";
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), "gembatch-terraform-"));
      for (const name of ["variables.tf", "locals.tf", "gembatch.json"]) copyFileSync(join(module, name), join(folder, name));
      writeFileSync(join(folder, "mine.indexes.json"), JSON.stringify(declared("gembatch")));
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    interface Locals {
      apis: string[];
      project_roles: string[];
      bucket: string | null;
      days: number;
      indexes: Record<string, { collection: string; query_scope: string; fields: object[] }>;
      field_settings: Record<string, { collection: string; field: string; ttl: boolean; indexes: object[] }>;
    }

    function evaluate(variables: Record<string, string>): Locals {
      const args = Object.entries({ project_id: "demo-project", ...variables }).flatMap(([name, value]) => ["-var", `${name}=${value}`]);
      const names = ["apis", "project_roles", "bucket", "days", "indexes", "field_settings"];
      const { stdout, stderr, status } = terraform(
        ["console", ...args],
        folder,
        `jsonencode({${names.map((name) => `${name} = local.${name}`).join(", ")}})\n`,
      );
      if (status !== 0) throw new Error(stderr);
      return JSON.parse(JSON.parse(stdout.slice(stdout.indexOf('"'))) as string) as Locals;
    }

    it("is formatted", () => {
      expect(terraform(["fmt", "-check", "-recursive", "-diff", module], tmpdir()).stdout).toBe("");
    });

    it.each([
      ["vertex", {}],
      ["vertex", { dataset: "batches" }],
      ["gemini", {}],
      ["gemini", { bucket: "large", dataset: "ignored" }],
    ] as const)("wants what gembatch init wants: %s, %j", (provider, given: { bucket?: string; dataset?: string }) => {
      const locals = evaluate({ model_provider: provider, ...given });
      const settings = resolveSettings({ provider, ...given }, { project: "demo-project", env: new Map(), regions: [] });
      const hasDataset = settings.dataset !== undefined;
      expect(locals.apis.toSorted()).toEqual([...apisFor(provider, hasDataset)].toSorted());
      expect(locals.project_roles.toSorted()).toEqual([...projectRolesFor(settings)].toSorted());
      expect(locals.bucket).toBe(settings.bucket?.name ?? null);
      expect(locals.days).toBe(defaults.days);
      // The names in the output "env", which needs no provider to be read.
      const wanted = [...wantedEnv(settings).keys(), ...defaultEnv().keys()];
      expect(wanted.filter((name) => !read("outputs.tf").includes(name))).toEqual([]);
    });

    it("makes the declared indexes and field settings, with the prefix", () => {
      const { indexes, field_settings: fields } = evaluate({ indexes_file: "mine.indexes.json", prefix: "gb" });
      expect(Object.values(indexes)).toEqual(
        declared("gb")
          .indexes.map(({ collectionGroup, fields: indexed }) => ({
            collection: collectionGroup,
            query_scope: "COLLECTION",
            fields: indexed.map(({ fieldPath, order }) => ({ field_path: fieldPath, order, array_config: null })),
          }))
          .toSorted((a, b) => (a.collection < b.collection ? -1 : 1)),
      );
      expect(fields).toEqual({
        "gembatch_runs/expireAt": { collection: "gb_runs", field: "expireAt", ttl: true, indexes: [] },
        "gembatch_entries/body": {
          collection: "gb_entries",
          field: "body",
          ttl: false,
          indexes: [{ order: "ASCENDING", query_scope: "COLLECTION", array_config: null }],
        },
      });
      expect(Object.keys(evaluate({}).indexes)).toHaveLength(terraformFacts().firestore.indexes.length);
      expect(evaluate({ manage_indexes: "false" })).toMatchObject({ indexes: {}, field_settings: {} });
    });

    it("has indexes of one field beside the others, and only fields that expire, on the Enterprise edition", () => {
      const { indexes, field_settings: fields } = evaluate({ indexes_file: "mine.indexes.json", edition: "ENTERPRISE" });
      expect(indexes["gembatch_entries/COLLECTION/body-ASCENDING"]).toEqual({
        collection: "gembatch_entries",
        query_scope: "COLLECTION",
        fields: [{ field_path: "body", order: "ASCENDING", array_config: null }],
      });
      expect(Object.keys(fields)).toEqual(["gembatch_runs/expireAt"]);
      const own = evaluate({ edition: "ENTERPRISE" });
      const wanted = declaredIndexes("gembatch", "ENTERPRISE");
      expect([Object.keys(own.indexes).length, Object.keys(own.field_settings).length]).toEqual([
        wanted.indexes.length,
        wanted.fieldOverrides.length,
      ]);
    });

    it("refuses to delete files that jobs still need", () => {
      expect(() => evaluate({ days: "4" })).toThrow(/days must be at least 5/);
    });
  },
);
