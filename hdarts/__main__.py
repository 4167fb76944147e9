from hdarts.workbook.cli import main

main()
