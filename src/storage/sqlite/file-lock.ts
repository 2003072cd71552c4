import { DatabaseSync } from 'node:sqlite'
import { SpiffeError } from '../../spiffe/errors.ts'
import { createPrivateFile } from './private-file.ts'
import { sqliteBusy, sqliteCode, translateSqliteError } from './sqlite-errors.ts'

/**
 * Keeps every other process, and every other user in this one, off a database file until disposed. The lock is the kernel's,
 * on the file beside it, and ends with the process however that dies; `sqlite3` and backup tools are not kept out.
 */
export class FileLock implements Disposable {
  /** Referenced for life: a collected database gives up its lock. */
  readonly #database: DatabaseSync

  private constructor (database: DatabaseSync) { this.#database = database }

  /** @throws {SpiffeError} `datastore_locked` */
  static take (file: string): FileLock {
    const lockFile = `${file}.lock`
    createPrivateFile(lockFile)
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(lockFile, { timeout: 0 })
      database.exec('begin exclusive')
      return new FileLock(database)
    } catch (error) {
      database?.close()
      if (sqliteCode(error) !== sqliteBusy) throw translateSqliteError(error, lockFile)
      throw new SpiffeError('datastore_locked',
        `${file} is in use by another server, which holds ${lockFile}; a SQLite file serves one; to run several, stop it, copy the ` +
        'file with `assay datastore migrate --to postgres://…`, and set datastore_url to that address', { cause: error })
    }
  }

  [Symbol.dispose] (): void {
    if (this.#database.isOpen) this.#database.close()
  }
}
