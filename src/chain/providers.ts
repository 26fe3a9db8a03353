import { describe, GembatchError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import type { PromptTarget } from "./prompt-url.ts";

/** What may say whom a prompt goes to, first things first. */
export interface ProviderChoice {
  /** The prompt's own option. */
  named?: string | undefined;
  /** The option of its chain or handler. */
  ofDefinition?: string | undefined;
  /** Which API its URL belongs to, for SDKs on the batch fetch. */
  api?: PromptTarget["api"];
}

/** The providers of a gembatch by name. The first one is the default. */
export class Providers {
  readonly default: Provider;
  readonly byName: ReadonlyMap<string, Provider>;

  /** Throws `invalid_option` if there is none, or two have one name. */
  constructor(providers: readonly Provider[]) {
    const byName = new Map<string, Provider>();
    for (const provider of providers) {
      if (byName.has(provider.name)) {
        throw new GembatchError("invalid_option", `Option provider has two providers with the name ${describe(provider.name)}.`, {
          hint: 'A name is the first part of lanes and must be unique: give one of them another, as in gemini({ name: "gemini-2" }).',
        });
      }
      byName.set(provider.name, provider);
    }
    const [first] = providers;
    if (first === undefined) throw new GembatchError("invalid_option", "Option provider is an empty list.");
    this.default = first;
    this.byName = byName;
  }

  get names(): string[] {
    return [...this.byName.keys()];
  }

  get(name: string): Provider {
    const provider = this.byName.get(name);
    if (provider) return provider;
    throw new GembatchError("invalid_option", `Option provider names ${describe(name)}, which is not configured here.`, {
      hint: `Configured: ${this.names.join(", ")}. Add it to the option provider of new Gembatch().`,
    });
  }

  choose({ named, ofDefinition, api }: ProviderChoice): Provider {
    const name = named ?? ofDefinition;
    if (name !== undefined) return this.get(name);
    return (api && this.#speaking(api)) ?? this.default;
  }

  /** The default if it speaks this API, else the only one that does. */
  #speaking(api: PromptTarget["api"]): Provider | undefined {
    const speaking = [...this.byName.values()].filter((provider) => (provider.api ?? provider.name) === api);
    return speaking.includes(this.default) ? this.default : speaking.length === 1 ? speaking[0] : undefined;
  }
}
