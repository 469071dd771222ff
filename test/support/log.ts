import type { Log, LogFields } from '../../src/io/log.ts'

/** A log whose lines somebody is told of; by default nobody. */
export function createTestLog(told: (event: string, fields: LogFields, severity: keyof Log) => void = () => {}): Log {
  return {
    info: (event, fields = {}) => told(event, fields, 'info'),
    warn: (event, fields = {}) => told(event, fields, 'warn'),
    error: (event, fields = {}) => told(event, fields, 'error'),
  }
}
