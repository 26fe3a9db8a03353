import * as logger from "firebase-functions/logger";
import { gembatch } from "./gembatch.js";

/** Gets the response and what was handed to `submit`. What it returns is kept as the output of its run. */
export const echoAction = gembatch.handler("echoAction", (response, params: { askedBy: string }) => {
  logger.info("An answer has come.", { askedBy: params.askedBy, characters: response.text?.length });
  return { text: response.text, askedBy: params.askedBy };
});
