import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { executeSql, postgresMissing, startPostgres } from '../../test/fakes/postgres.ts'
import { startMeasuredSpire } from '../measure/spire-server.ts'
import { TestBed } from '../measure/test-bed.ts'
import { openSubject, type Subject } from './subject.ts'

/** Where servers keep what they know. */
export interface Store {
  readonly name: string
  /** On return both are ready to be asked. */
  open (withSpire: boolean): Promise<OpenStore>
}

export interface OpenStore extends AsyncDisposable {
  readonly assay: Subject
  readonly spire: Subject | undefined
  /** The database's first process, where it has processes of its own. */
  readonly databasePid?: number | undefined
}

/** SQLite, in each server's own process; PostgreSQL where it is, one for both, reached over its Unix socket. */
export function stores (): Store[] {
  return [sqlite, ...postgresMissing() === false ? [postgresql] : []]
}

const sqlite: Store = {
  name: 'SQLite',
  async open (withSpire) {
    await using scope = new AsyncDisposableStack()
    const assay = scope.use(await openSubject('Assay', await TestBed.open()))
    const spire = withSpire ? scope.use(await openSubject('SPIRE', new TestBed(await startMeasuredSpire()))) : undefined
    const owned = scope.move()
    return { assay, spire, [Symbol.asyncDispose]: () => owned.disposeAsync() }
  }
}

const postgresql: Store = {
  name: 'PostgreSQL',
  async open (withSpire) {
    await using scope = new AsyncDisposableStack()
    const { url, folder } = scope.use(await startPostgres())
    const assay = scope.use(await openSubject('Assay', await TestBed.open({ datastore_url: url })))
    let spire: Subject | undefined
    if (withSpire) {
      await executeSql(url, 'create database spire')
      const connection = `dbname=spire user=assay host=${folder} sslmode=disable`
      const server = await startMeasuredSpire({ database_type: 'postgres', connection_string: connection })
      spire = scope.use(await openSubject('SPIRE', new TestBed(server)))
    }
    const databasePid = Number(readFileSync(join(folder, 'data', 'postmaster.pid'), 'utf8').split('\n')[0])
    const owned = scope.move()
    return { assay, spire, databasePid, [Symbol.asyncDispose]: () => owned.disposeAsync() }
  }
}
