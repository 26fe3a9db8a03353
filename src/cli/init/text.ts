/** The plan and its outcome for people. */
import { folderText } from "./commands.ts";
import type { Outcome } from "./steps.ts";

/** What is printed with `--json`. */
export interface InitReport {
  project: string;
  /** The folder of firebase.json. */
  folder: string;
  codebase: { name: string; folder: string; language: string; modules: string };
  provider: string;
  offline: boolean;
  steps: Outcome[];
  warnings: string[];
}

const marks: Record<Outcome["state"], string> = {
  already: "already",
  planned: "will do",
  "by hand": "by hand",
  done: "done",
  failed: "FAILED",
  skipped: "skipped",
};

const areas = { files: "Files", cloud: "Google Cloud" } as const;

export function planText({ steps, warnings, ...report }: InitReport): string {
  const groups = (["files", "cloud"] as const).map((area) => {
    const own = steps.filter((step) => step.area === area);
    return own.length === 0 ? "" : `\n${areas[area]}\n${own.map(stepText).join("")}`;
  });
  return `${headText(report)}${groups.join("")}${warnings.map((warning) => `\nwarning: ${warning}\n`).join("")}\n`;
}

function headText({ project, folder, codebase, provider, offline }: Omit<InitReport, "steps" | "warnings">): string {
  const where = `functions in ${folderText(codebase.folder)} (${codebase.language}, ${codebase.modules})`;
  return `gembatch init: project ${project}, ${where}, provider ${provider}${offline ? ", offline" : ""}\n${folder}\n`;
}

export function stepText({ title, state, note, show, error }: Outcome): string {
  const line = `  ${marks[state].padEnd(8)}${title}${note === undefined || state === "done" || state === "failed" ? "" : `: ${note}`}\n`;
  const why = error === undefined ? "" : `          ${error}\n`;
  const shown =
    show === undefined
      ? ""
      : `${show
          .trimEnd()
          .split("\n")
          .map((one) => `            ${one}`.trimEnd())
          .join("\n")}\n`;
  return line + why + shown;
}

export function nextText(next: readonly string[]): string {
  return `\nNext\n${next.map((command) => `  ${command}\n`).join("")}`;
}
