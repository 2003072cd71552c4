// In ECMAScript 2026 and in Node 24, not yet in TypeScript's library.
const { rawJSON } = JSON as typeof JSON & { rawJSON (this: void, text: string): unknown }

/** Like `JSON.stringify`, but writes a `bigint` as the integer it is (TS-04). */
export function formatJson (value: object, indent?: number): string {
  return JSON.stringify(value, (_name, member: unknown) => typeof member === 'bigint' ? rawJSON(member.toString()) : member, indent)
}
