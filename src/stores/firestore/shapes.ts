/** What a store tells of its queries and of the documents that they cost. */

/** What a query asks of the indexes. */
export interface QueryShape {
  collection: string;
  equal: string[];
  range: string[];
  order: (readonly [string, "asc" | "desc"])[];
}

/** Documents as Firestore bills them. */
export interface Operations {
  reads: number;
  writes: number;
  deletes: number;
}
