import { Client } from "pg";

/** One connection of the measurement's own, to look at what a system has stored. */
export class Database {
  readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  static async connect(url: string): Promise<Database> {
    const client = new Client({ connectionString: url });
    await client.connect();
    return new Database(client);
  }

  /** The number that a query gives. */
  async count(sql: string): Promise<number> {
    const { rows } = await this.client.query<unknown[]>({ text: sql, rowMode: "array" });
    return Number(rows[0]?.[0]);
  }

  async close(): Promise<void> {
    await this.client.end();
  }
}
