import type { SharedKeyRows } from '../../src/keys/key-manager.ts'

export class MemoryKeyRows implements SharedKeyRows {
  readonly rows = new Map<string, Uint8Array>()

  async list (): Promise<ReadonlyMap<string, Uint8Array>> { return new Map(this.rows) }
  async put (id: string, row: Uint8Array): Promise<void> { this.rows.set(id, row) }
  async delete (id: string): Promise<void> { this.rows.delete(id) }
}
