export { vertex } from "./providers/vertex/provider.ts";
export type { VertexLimits } from "./providers/vertex/limits.ts";
export type { VertexAuthClient, VertexOptions } from "./providers/vertex/options.ts";
