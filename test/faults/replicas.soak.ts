import { randomInt } from 'node:crypto'
import t from 'tap'
import { noEnvoy } from '../fakes/envoy.ts'
import { postgresMissing } from '../fakes/postgres.ts'
import { replicaRounds } from './replica-rounds.ts'

const skip = postgresMissing() || noEnvoy()
const random = Array.from({ length: 6 }, () => randomInt(3))

t.test(`replicas killed in turn and at random (${random.join()}), cut off, paused again and again`, { skip, timeout: 900_000 }, t =>
  replicaRounds(t, { kills: [0, 1, 2, ...random], pauses: 4, caTtl: '120s', lost: 'holder of the lease' }))
